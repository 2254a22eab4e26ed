#include "ops/retrace.h"
#include "recurrence_testing.h"

namespace machin_fast {
namespace {

template <typename N>
struct RetraceCase : RecurrenceCase {
  using Number = N;
  static constexpr int kOutputs = 1;

  static Retrace<N> op(const Rollout<N>& in, Outputs<N>& out) {
    return {.behavior_log_prob = in.behavior_log_prob.data(),
            .target_log_prob = in.target_log_prob.data(),
            .reward = in.reward.data(),
            .value = in.value.data(),
            .next_value = in.next_value.data(),
            .terminated = in.terminated.get(),
            .truncated = in.truncated.get(),
            .target = out[0].data(),
            .gamma = in.gamma,
            .lambda = in.lambda};
  }

  // Munos et al. 2016, arXiv:1606.02647, equations 3 and 4. The coefficient of a step enters with
  // the step before it: `beyond` is c * (target - Q) of the next row.
  static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out) {
    double beyond = 0;
    for (auto i = rows.rbegin(); i != rows.rend(); ++i) {
      const double next = in.terminated[*i] ? 0 : double(in.gamma) * in.next_value[*i];
      const double target = in.reward[*i] + next + (in.done(*i) ? 0 : in.gamma * beyond);
      const double ratio = std::exp(double(in.target_log_prob[*i]) - in.behavior_log_prob[*i]);
      beyond = in.lambda * std::min(ratio, 1.0) * (target - in.value[*i]);
      out[0][*i] = target;
    }
  }
};

using RetraceCases = testing::Types<RetraceCase<float>, RetraceCase<double>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Retrace, Recurrence, RetraceCases);

}  // namespace
}  // namespace machin_fast

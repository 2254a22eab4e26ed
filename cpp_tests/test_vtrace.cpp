#include "ops/vtrace.h"
#include "recurrence_testing.h"

namespace machin_fast {
namespace {

template <typename N>
struct VtraceCase : RecurrenceCase {
  using Number = N;
  static constexpr int kOutputs = 2;
  // All different, so that none is taken for another.
  static constexpr double kRhoClip = 1.5, kCClip = 0.75, kAdvantageRhoClip = 2;

  static Vtrace<N> op(const Rollout<N>& in, Outputs<N>& out) {
    return {.behavior_log_prob = in.behavior_log_prob.data(),
            .target_log_prob = in.target_log_prob.data(),
            .reward = in.reward.data(),
            .value = in.value.data(),
            .next_value = in.next_value.data(),
            .terminated = in.terminated.get(),
            .truncated = in.truncated.get(),
            .advantage = out[0].data(),
            .value_target = out[1].data(),
            .gamma = in.gamma,
            .lambda = in.lambda,
            .rho_clip = N(kRhoClip),
            .c_clip = N(kCClip),
            .advantage_rho_clip = N(kAdvantageRhoClip)};
  }

  // Espeholt et al. 2018, arXiv:1802.01561, remark 1 and section 4.2. `beyond` is the target of
  // the next state less its value.
  static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out) {
    double beyond = 0;
    for (auto i = rows.rbegin(); i != rows.rend(); ++i) {
      if (in.done(*i)) beyond = 0;
      const double ratio = std::exp(double(in.target_log_prob[*i]) - in.behavior_log_prob[*i]);
      const double next = in.terminated[*i] ? 0 : double(in.gamma) * in.next_value[*i];
      const double delta = in.reward[*i] + next - in.value[*i];
      out[0][*i] = std::min(ratio, kAdvantageRhoClip) * (delta + in.gamma * beyond);
      beyond = std::min(ratio, kRhoClip) * delta +
               in.gamma * in.lambda * std::min(ratio, kCClip) * beyond;
      out[1][*i] = in.value[*i] + beyond;
    }
  }
};

using VtraceCases = testing::Types<VtraceCase<float>, VtraceCase<double>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Vtrace, Recurrence, VtraceCases);

TEST(Vtrace, ARatioThatOverflowsIsClipped) {
  Rollout<float> in = random_rollout<float>(40, 20);
  for (int64_t i = 0; i < in.size(); ++i) {
    in.behavior_log_prob[i] = i % 3 == 0 ? -500 : 0;
    in.target_log_prob[i] = i % 3 == 1 ? -500 : 0;
  }
  expect_equation<VtraceCase<float>>(in, [](const Outputs<float>& out) {
    for (const auto& column : out) {
      for (const float x : column) ASSERT_TRUE(std::isfinite(x));
    }
  });
}

}  // namespace
}  // namespace machin_fast

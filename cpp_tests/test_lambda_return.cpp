#include "ops/lambda_return.h"
#include "recurrence_testing.h"

namespace machin_fast {
namespace {

template <typename N>
struct LambdaReturnCase : RecurrenceCase {
  using Number = N;
  static constexpr int kOutputs = 1;

  static LambdaReturn<N> op(const Rollout<N>& in, Outputs<N>& out) {
    return {.reward = in.reward.data(),
            .next_value = in.next_value.data(),
            .terminated = in.terminated.get(),
            .truncated = in.truncated.get(),
            .result = out[0].data(),
            .gamma = in.gamma,
            .lambda = in.lambda};
  }

  // Sutton and Barto 2018, equation 12.20 in its form for state values.
  static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out) {
    double following = 0;
    for (auto i = rows.rbegin(); i != rows.rend(); ++i) {
      const double next = in.terminated[*i] ? 0 : in.next_value[*i];
      const bool cut = in.done(*i) || i == rows.rbegin();
      const double mixed = cut ? next : (1 - double(in.lambda)) * next + in.lambda * following;
      following = in.reward[*i] + in.gamma * mixed;
      out[0][*i] = following;
    }
  }
};

using LambdaReturnCases = testing::Types<LambdaReturnCase<float>, LambdaReturnCase<double>>;
INSTANTIATE_TYPED_TEST_SUITE_P(LambdaReturn, Recurrence, LambdaReturnCases);

// The one recurrence that runs forwards.
template <typename N>
struct LambdaReturnBackwardCase : RecurrenceCase {
  using Number = N;
  static constexpr int kOutputs = 2;

  static LambdaReturnBackward<N> op(const Rollout<N>& in, Outputs<N>& out) {
    return {.grad = in.reward.data(),
            .terminated = in.terminated.get(),
            .truncated = in.truncated.get(),
            .grad_reward = out[0].data(),
            .grad_next_value = out[1].data(),
            .gamma = in.gamma,
            .lambda = in.lambda};
  }

  // A return depends on its own reward by 1, on the next one of its trajectory by gamma * lambda.
  static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out) {
    double reach = 0;
    for (const int64_t i : rows) {
      reach = in.reward[i] + double(in.gamma) * in.lambda * reach;
      const bool cut = in.done(i) || i == rows.back();
      out[0][i] = reach;
      out[1][i] = in.terminated[i] ? 0 : in.gamma * (cut ? 1 : 1 - double(in.lambda)) * reach;
      if (cut) reach = 0;
    }
  }
};

using LambdaReturnBackwardCases =
    testing::Types<LambdaReturnBackwardCase<float>, LambdaReturnBackwardCase<double>>;
INSTANTIATE_TYPED_TEST_SUITE_P(LambdaReturnBackward, Recurrence, LambdaReturnBackwardCases);

}  // namespace
}  // namespace machin_fast

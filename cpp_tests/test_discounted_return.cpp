#include "ops/discounted_return.h"
#include "recurrence_testing.h"

namespace machin_fast {
namespace {

template <typename N, bool kBootstraps>
struct DiscountedReturnCase : RecurrenceCase {
  using Number = N;
  static constexpr int kOutputs = 1;

  static DiscountedReturn<N> op(const Rollout<N>& in, Outputs<N>& out) {
    return {.reward = in.reward.data(),
            .next_value = kBootstraps ? in.next_value.data() : nullptr,
            .terminated = in.terminated.get(),
            .truncated = in.truncated.get(),
            .result = out[0].data(),
            .gamma = in.gamma};
  }

  // Sutton and Barto 2018, equation 3.9.
  static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out) {
    double following = 0;
    for (auto i = rows.rbegin(); i != rows.rend(); ++i) {
      if (in.done(*i) || i == rows.rbegin()) {
        following = in.terminated[*i] || !kBootstraps ? 0 : in.next_value[*i];
      }
      following = in.reward[*i] + in.gamma * following;
      out[0][*i] = following;
    }
  }
};

using DiscountedReturnCases =
    testing::Types<DiscountedReturnCase<float, true>, DiscountedReturnCase<double, true>,
                   DiscountedReturnCase<float, false>, DiscountedReturnCase<double, false>>;
INSTANTIATE_TYPED_TEST_SUITE_P(DiscountedReturn, Recurrence, DiscountedReturnCases);

}  // namespace
}  // namespace machin_fast

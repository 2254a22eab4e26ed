#include "ops/gae.h"
#include "recurrence_testing.h"

namespace machin_fast {
namespace {

template <typename N>
struct GaeCase : RecurrenceCase {
  using Number = N;
  static constexpr int kOutputs = 2;

  static Gae<N> op(const Rollout<N>& in, Outputs<N>& out) {
    return {.reward = in.reward.data(),
            .value = in.value.data(),
            .next_value = in.next_value.data(),
            .terminated = in.terminated.get(),
            .truncated = in.truncated.get(),
            .advantage = out[0].data(),
            .value_target = out[1].data(),
            .gamma = in.gamma,
            .lambda = in.lambda};
  }

  // Schulman et al. 2016, arXiv:1506.02438, eq. 16: the sum of (gamma * lambda)^l * delta_{t+l}.
  static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out) {
    double following = 0;
    for (auto i = rows.rbegin(); i != rows.rend(); ++i) {
      const double next = in.terminated[*i] ? 0 : double(in.gamma) * in.next_value[*i];
      const double delta = in.reward[*i] + next - in.value[*i];
      following = in.done(*i) ? delta : delta + double(in.gamma) * in.lambda * following;
      out[0][*i] = following;
      out[1][*i] = following + in.value[*i];
    }
  }
};

using GaeCases = testing::Types<GaeCase<float>, GaeCase<double>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Gae, Recurrence, GaeCases);

// As long as the other estimators have no time for, as they share the driver.
TEST(Gae, AgreesWithTheEquationOverFortyTiles) {
  expect_equation<GaeCase<float>>(random_rollout<float>(2500, 33));
  expect_equation<GaeCase<double>>(random_rollout<double>(2500, 33));
}

// Three steps, worked out by hand: gamma = lambda = 1/2, so that all is exact.
TEST(Gae, TruncationKeepsTheBootstrapAndCutsTheTrace) {
  Rollout<float> in = random_rollout<float>(3, 1);
  in.gamma = in.lambda = 0.5f;
  in.reward = {1, 2, 3};
  in.value = {4, 5, 6};
  in.next_value = {5, 8, 8};
  for (int t = 0; t < 3; ++t) in.terminated[t] = in.truncated[t] = false;
  in.truncated[1] = true;  // and the last row is cut for being the last

  Outputs<float> out(2, std::vector<float>(3));
  const auto expect = [&](std::vector<float> advantage, std::vector<float> target) {
    on_every_twin<GaeCase<float>>(
        GaeCase<float>::op(in, out), in.layout, [] {},
        [&](const std::string& twin) {
          EXPECT_EQ(out[0], advantage) << twin;
          EXPECT_EQ(out[1], target) << twin;
        });
  };
  // delta = {1 + 2.5 - 4, 2 + 4 - 5, 3 + 4 - 6}
  expect({-0.5f + 0.25f * 1, 1, 1}, {3.75f, 6, 7});
  in.terminated[1] = true;  // and truncated: termination wins, delta is 2 - 5
  expect({-0.5f - 0.25f * 3, -3, 1}, {2.75f, 2, 7});
}

}  // namespace
}  // namespace machin_fast

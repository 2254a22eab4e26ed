// What the tests of all return estimators share: random rollouts, and facts that each estimator is
// asked for on every twin: all instruction sets of this processor, time-major and flat, and the
// CUDA launch under the emulator. An estimator's test file gives a case and its name:
//
//   template <typename N> struct GaeCase : RecurrenceCase {
//     using Number = N;
//     static constexpr int kOutputs = 2;
//     static Gae<N> op(const Rollout<N>& in, Outputs<N>& out);
//     // The equation, in double, on the rows of one column or segment in time order.
//     static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out);
//   };
//   using GaeCases = testing::Types<GaeCase<float>, GaeCase<double>>;
//   INSTANTIATE_TYPED_TEST_SUITE_P(Gae, Recurrence, GaeCases);
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/linear_recurrence.h"
#include "cuda_on_cpu.h"
#include "twins.h"

namespace machin_fast {

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Rows = std::vector<int64_t>;
template <typename N>
using Outputs = std::vector<std::vector<N>>;

template <typename N>
struct Rollout {
  RolloutLayout layout;
  std::vector<int64_t> bounds;
  std::vector<N> reward, value, next_value, behavior_log_prob, target_log_prob;
  std::unique_ptr<bool[]> terminated, truncated;  // a vector would pack them
  N gamma = N(0.97), lambda = N(0.9);

  int64_t size() const { return layout.steps * layout.envs; }
  bool done(int64_t i) const { return terminated[i] || truncated[i]; }

  // Columns, or segments, each in time order.
  std::vector<Rows> trajectories() const {
    const bool flat = layout.bounds != nullptr;
    std::vector<Rows> all(size_t(flat ? layout.segments : layout.envs));
    for (size_t k = 0; k < all.size(); ++k) {
      const int64_t begin = flat ? bounds[k] : 0, end = flat ? bounds[k + 1] : layout.steps;
      for (int64_t t = begin; t < end; ++t) {
        all[k].push_back(flat ? t : t * layout.envs + int64_t(k));
      }
    }
    return all;
  }
};

// Time-major if `bounds` is empty. One step in ten ends an episode, half of these by termination;
// the next value of a terminated step is NaN, as no estimator may look at it.
template <typename N>
Rollout<N> random_rollout(int64_t steps, int64_t envs, std::vector<int64_t> bounds = {}) {
  std::mt19937_64 random(uint64_t(steps * 10007 + envs));
  std::normal_distribution<double> normal;
  const int64_t n = steps * envs;
  Rollout<N> r;
  r.layout = {.steps = steps, .envs = envs};
  r.bounds = std::move(bounds);
  if (!r.bounds.empty()) {
    r.layout.bounds = r.bounds.data();
    r.layout.segments = int64_t(r.bounds.size()) - 1;
  }
  for (auto* field :
       {&r.reward, &r.value, &r.next_value, &r.behavior_log_prob, &r.target_log_prob}) {
    for (int64_t i = 0; i < n; ++i) field->push_back(N(normal(random)));
  }
  r.terminated.reset(new bool[size_t(n)]);
  r.truncated.reset(new bool[size_t(n)]);
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t draw = random() % 20;
    r.terminated[i] = draw == 0 || draw == 2;
    r.truncated[i] = draw == 1 || draw == 2;
    if (r.terminated[i]) r.next_value[i] = N(kNan);
  }
  return r;
}

// Segments of 3, 1, 0, 0, 2, 70, 1, ... rows, empty ones at both ends too.
inline std::vector<int64_t> awkward_bounds(int64_t steps) {
  std::vector<int64_t> bounds = {0, 0};
  for (int64_t k = 0; bounds.back() < steps; ++k) {
    constexpr int64_t kLengths[] = {3, 1, 0, 0, 2, 70, 1, 1, 5, 16, 0, 31, 64};
    bounds.push_back(std::min(steps, bounds.back() + kLengths[k % 13]));
  }
  bounds.push_back(steps);
  return bounds;
}

// How a linear recurrence is run.
struct RecurrenceCase {
  // What threads share: segments or envs.
  static int64_t count(const RolloutLayout& layout) {
    return layout.bounds != nullptr ? layout.segments : layout.envs;
  }

  template <typename Op>
  static void run(Isa isa, const Op& op, const RolloutLayout& layout, int64_t begin, int64_t end) {
    if (layout.bounds != nullptr) {
      MF_CALL_ON(isa, recur_flat(op, layout, begin, end));
    } else {
      MF_CALL_ON(isa, recur_columns(op, layout, begin, end));
    }
  }

  template <typename Op>
  static void emulate(const Op& op, const RolloutLayout& layout) {
    // Neither zero nor larger than asked for, so that nothing relies on more.
    std::vector<char> scratch(size_t(recurrence_scratch<Op>(layout)), char(0xab));
    launch_recurrence(op, layout, scratch.data(), nullptr);
  }
};

// Calls check(name) after op has run on a twin. `clear` comes before each run.
template <typename Case, typename Op, typename Clear, typename Check>
void on_every_twin(const Op& op, const RolloutLayout& layout, Clear clear, Check check) {
  for (const Isa isa : isas()) {
    for (const int64_t pieces : {1, 3}) {
      clear();
      for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t begin = Case::count(layout) * piece / pieces;
        const int64_t end = Case::count(layout) * (piece + 1) / pieces;
        if (begin < end) Case::run(isa, op, layout, begin, end);
      }
      check(std::string(isa_name(isa)) + " in " + std::to_string(pieces));
    }
  }
  cuda_on_cpu::for_each_order([&] {
    clear();
    Case::emulate(op, layout);
    check("emulated CUDA, order " + std::to_string(int(cuda_on_cpu::order.kind)));
  });
}

// Where `got` first departs from `want`, by more than rounding; NaN equals NaN.
template <typename N>
void expect_close(const std::vector<N>& got, const std::vector<double>& want,
                  const std::string& what) {
  const double tolerance = sizeof(N) == 4 ? 1e-5 : 1e-12;
  for (size_t i = 0; i < want.size(); ++i) {
    const bool close = std::isnan(want[i])
                           ? std::isnan(got[i])
                           : std::abs(got[i] - want[i]) <= tolerance * (1 + std::abs(want[i]));
    if (close) continue;
    ADD_FAILURE() << what << ": row " << i << " is " << got[i] << ", wanted " << want[i];
    return;
  }
}

// Runs Case on every twin, holds it against the reference and calls also(out).
template <typename Case, typename Also>
void expect_equation(const Rollout<typename Case::Number>& in, Also also) {
  using N = typename Case::Number;
  // A value that no result has: rows not written would show.
  const N blank = N(-1e30);
  Outputs<N> out(Case::kOutputs, std::vector<N>(size_t(in.size()), blank));
  Outputs<double> want(Case::kOutputs, std::vector<double>(size_t(in.size()), kNan));
  for (const Rows& rows : in.trajectories()) Case::reference(in, rows, want);
  const auto clear = [&] {
    for (auto& column : out) column.assign(column.size(), blank);
  };
  on_every_twin<Case>(Case::op(in, out), in.layout, clear, [&](const std::string& twin) {
    for (int o = 0; o < Case::kOutputs; ++o) {
      expect_close(out[o], want[o], twin + ", output " + std::to_string(o));
    }
    also(out);
  });
}

template <typename Case>
void expect_equation(const Rollout<typename Case::Number>& in) {
  expect_equation<Case>(in, [](const auto&) {});
}

template <typename Case>
class Recurrence : public testing::Test {};
TYPED_TEST_SUITE_P(Recurrence);

TYPED_TEST_P(Recurrence, AgreesWithTheEquationInColumns) {
  // 1100 envs are more than a block of columns; 600 and 2100 steps take several tiles on CUDA.
  constexpr int64_t kShapes[][2] = {{1, 1},    {7, 1},    {64, 65},  {65, 64},  {1, 1000},
                                    {1000, 1}, {1000, 3}, {2, 1100}, {2100, 3}, {600, 33}};
  for (const auto& [steps, envs] : kShapes) {
    SCOPED_TRACE(testing::Message() << "[" << steps << ", " << envs << "]");
    expect_equation<TypeParam>(random_rollout<typename TypeParam::Number>(steps, envs));
  }
}

TYPED_TEST_P(Recurrence, AgreesWithTheEquationInOneSegment) {
  for (const int64_t steps : {1, 2, 3, 4, 7, 8, 15, 16, 17, 64, 65, 1000, 9001}) {
    SCOPED_TRACE(testing::Message() << "[" << steps << "]");
    expect_equation<TypeParam>(random_rollout<typename TypeParam::Number>(steps, 1, {0, steps}));
  }
}

TYPED_TEST_P(Recurrence, AgreesWithTheEquationInManySegments) {
  for (const int64_t steps : {1, 2, 3, 64, 65, 1000, 9001}) {
    SCOPED_TRACE(testing::Message() << "[" << steps << "]");
    expect_equation<TypeParam>(
        random_rollout<typename TypeParam::Number>(steps, 1, awkward_bounds(steps)));
  }
}

TYPED_TEST_P(Recurrence, NanStaysInItsTrajectory) {
  using N = typename TypeParam::Number;
  // Episodes of 50 steps, ended by termination, truncation and termination in turn; row 75 is NaN.
  const auto spoil = [](Rollout<N>& in) {
    const int64_t envs = in.layout.envs;
    for (int64_t i = 0; i < in.size(); ++i) {
      const int64_t t = i / envs;
      in.terminated[i] = t % 100 == 49;
      in.truncated[i] = t % 100 == 99;
      in.next_value[i] = in.terminated[i] ? N(kNan) : N(1);
    }
    for (auto* field : {&in.reward, &in.value, &in.next_value}) (*field)[75 * envs] = N(kNan);
  };
  const auto others_are_numbers = [](int64_t envs) {
    return [envs](const Outputs<N>& out) {
      EXPECT_TRUE(std::isnan(out[0][size_t(75 * envs)]));
      for (const auto& column : out) {
        for (int64_t i = 0; i < int64_t(column.size()); ++i) {
          if (i % envs == 0 && i / envs >= 50 && i / envs < 100) continue;
          ASSERT_FALSE(std::isnan(column[size_t(i)])) << "row " << i / envs << ", env " << i % envs;
        }
      }
    };
  };
  Rollout<N> columns = random_rollout<N>(200, 33);
  spoil(columns);
  expect_equation<TypeParam>(columns, others_are_numbers(33));
  Rollout<N> flat = random_rollout<N>(200, 1, {0, 200});
  spoil(flat);
  expect_equation<TypeParam>(flat, others_are_numbers(1));
}

REGISTER_TYPED_TEST_SUITE_P(Recurrence, AgreesWithTheEquationInColumns,
                            AgreesWithTheEquationInOneSegment, AgreesWithTheEquationInManySegments,
                            NanStaysInItsTrajectory);

}  // namespace machin_fast

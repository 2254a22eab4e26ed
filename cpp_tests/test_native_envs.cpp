#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda_on_cpu.h"
#include "ops/native_envs.h"
#include "twins.h"

namespace machin_fast {
namespace {

constexpr NativeEnv kEnvs[] = {NativeEnv::kCartPole, NativeEnv::kPendulum, NativeEnv::kAcrobot,
                               NativeEnv::kMountainCar, NativeEnv::kMountainCarContinuous};

struct Sizes {
  int variables = 0, observation = 0, actions = 0, draws = 0;
  StartBounds start = {};
};

Sizes sizes_of(NativeEnv env) {
  Sizes sizes;
  dispatch_env(env, [&]<typename Env>() {
    sizes = {Env::kVariables, Env::kObservation, Env::kActions, Env::kDraws, Env::start()};
  });
  return sizes;
}

// Environments with all that a step writes.
struct Batch {
  NativeEnv env;
  int64_t envs;
  Sizes sizes;
  std::vector<double> state;
  std::vector<int64_t> counters, choice;
  std::vector<float> real, observation, final_observation, reward;
  std::vector<uint8_t> terminated, truncated;  // as bool

  Batch(NativeEnv env, int64_t envs, uint64_t first_seed = 0)
      : env(env), envs(envs), sizes(sizes_of(env)) {
    state.resize(size_t(sizes.variables * envs), 77);
    counters.resize(size_t(kCounters * envs));
    choice.resize(size_t(envs));
    real.resize(size_t(envs));
    observation.resize(size_t(sizes.observation * envs), 77);
    final_observation = observation;
    reward.resize(size_t(envs), 77);
    terminated.resize(size_t(envs), 1);
    truncated = terminated;
    for (int64_t i = 0; i < envs; ++i) counters[size_t(i)] = int64_t(first_seed) + i;
  }

  EnvBatch kept() { return {state.data(), counters.data(), envs, sizes.start}; }

  EnvReset reset() { return {.batch = kept(), .mask = nullptr, .observation = observation.data()}; }

  EnvStep step(int64_t limit, Autoreset autoreset) {
    const bool discrete = sizes.actions > 0;
    return {.batch = kept(),
            .action = discrete ? static_cast<void*>(choice.data()) : real.data(),
            .limit = limit,
            .autoreset = autoreset,
            .observation = observation.data(),
            .reward = reward.data(),
            .terminated = reinterpret_cast<bool*>(terminated.data()),
            .truncated = reinterpret_cast<bool*>(truncated.data()),
            .final_observation =
                autoreset == Autoreset::kSameStep ? final_observation.data() : nullptr};
  }

  void draw_actions(std::mt19937_64& random) {
    std::uniform_real_distribution<float> uniform(-2.5, 2.5);
    for (int64_t i = 0; i < envs; ++i) {
      choice[size_t(i)] = int64_t(random() % uint64_t(std::max(sizes.actions, 1)));
      real[size_t(i)] = uniform(random);
    }
  }

  // Bit for bit, so that NaN is itself and -0 is not 0.
  bool operator==(const Batch& other) const {
    const auto same = [](const auto& x, const auto& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof x[0]) == 0;
    };
    return same(state, other.state) && same(counters, other.counters) &&
           same(observation, other.observation) &&
           same(final_observation, other.final_observation) && same(reward, other.reward) &&
           same(terminated, other.terminated) && same(truncated, other.truncated);
  }
};

// Calls run(reset, step, name) for each twin; step returns the first environment refused.
template <typename Run>
void on_every_twin(Run run) {
  for (const Isa isa : isas()) {
    run([&](Batch& b) { MF_CALL_ON(isa, reset_envs(b.env, b.reset(), 0, b.envs)); },
        [&](Batch& b, int64_t limit, Autoreset autoreset) {
          const EnvStep args = b.step(limit, autoreset);
          const int64_t refused = MF_CALL_ON(isa, refused_env(b.env, args));
          if (refused == b.envs) MF_CALL_ON(isa, step_envs(b.env, args, 0, b.envs));
          return refused;
        },
        isa_name(isa));
  }
  cuda_on_cpu::for_each_order([&] {
    run([](Batch& b) { launch_reset_envs(b.env, b.reset(), nullptr); },
        [](Batch& b, int64_t limit, Autoreset autoreset) {
          int64_t status = -1;
          launch_step_envs(b.env, b.step(limit, autoreset), &status, nullptr);
          return status;
        },
        "cuda");
  });
}

TEST(SinCosTest, AgreesWithLibm) {
  std::mt19937_64 random(1);
  double worst = 0;
  const auto check = [&](double x) {
    const SinCos<double> got = sin_cos<double>(x);
    const auto pack = sin_cos<Vec<double>>(splat<Vec<double>>(x));
    EXPECT_EQ(got.sin, pack.sin[0]) << x;
    EXPECT_EQ(got.cos, pack.cos[1]) << x;
    worst = std::max({worst, std::abs(got.sin - std::sin(x)), std::abs(got.cos - std::cos(x))});
  };
  for (const double range : {0.8, 7.0, 100.0, 1e6}) {
    std::uniform_real_distribution<double> uniform(-range, range);
    for (int k = 0; k < 50000; ++k) check(uniform(random));
  }
  for (int k = -40; k <= 40; ++k) {
    for (const double x : {k * kPi / 4, std::nextafter(k * kPi / 4, 100.0)}) check(x);
  }
  EXPECT_LE(worst, 0x1p-52);
  EXPECT_EQ(sin_cos<double>(0).sin, 0);
  EXPECT_EQ(sin_cos<double>(0).cos, 1);
  for (const double x : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, -HUGE_VAL}) {
    EXPECT_TRUE(std::isnan(sin_cos<double>(x).sin));
    EXPECT_TRUE(std::isnan(sin_cos<double>(x).cos));
  }
}

TEST(NativeEnvsTest, AllTwinsGiveTheSameBits) {
  for (const NativeEnv env : kEnvs) {
    for (const int64_t envs : {1, 3, 8, 9, 65}) {
      for (int64_t mode = 0; mode < 2; ++mode) {
        std::vector<Batch> expected;  // after each step, by the first twin
        on_every_twin([&](auto reset, auto step, const std::string& twin) {
          Batch b(env, envs);
          reset(b);
          std::mt19937_64 random(7);
          const bool first = expected.empty();
          for (size_t t = 0; t < 45; ++t) {
            b.draw_actions(random);
            ASSERT_EQ(step(b, 20, Autoreset(mode)), envs);
            if (first) expected.push_back(b);
            ASSERT_TRUE(b == expected[t])
                << twin << ", env " << int64_t(env) << ", " << envs << " envs, step " << t;
          }
        });
      }
    }
  }
}

// An environment is not touched by how many others there are, nor by how they are dealt out.
TEST(NativeEnvsTest, PartsAreAsTheWhole) {
  for (const NativeEnv env : kEnvs) {
    Batch whole(env, 130);
    Batch parts = whole, alone(env, 1, 77);
    for (Batch* b : {&whole, &parts, &alone}) {
      MF_CALL_ISA(reset_envs(b->env, b->reset(), 0, b->envs));
    }
    std::mt19937_64 random(3);
    for (int t = 0; t < 30; ++t) {
      whole.draw_actions(random);
      parts.choice = whole.choice, parts.real = whole.real;
      alone.choice[0] = whole.choice[77], alone.real[0] = whole.real[77];
      const auto run = [](Batch& b, int64_t begin, int64_t end) {
        MF_CALL_ISA(step_envs(b.env, b.step(12, Autoreset::kNextStep), begin, end));
      };
      run(whole, 0, 130);
      run(parts, 61, 130), run(parts, 0, 64 - 3);
      run(alone, 0, 1);
      ASSERT_TRUE(whole == parts) << int64_t(env);
      for (int v = 0; v < whole.sizes.variables; ++v) {
        ASSERT_EQ(alone.state[size_t(v)], whole.state[size_t(v * 130 + 77)]) << int64_t(env);
      }
      ASSERT_EQ(alone.reward[0], whole.reward[77]);
    }
  }
}

TEST(NativeEnvsTest, EpisodesBeginWithinTheirBounds) {
  on_every_twin([](auto reset, auto, const std::string& twin) {
    for (const NativeEnv env : kEnvs) {
      Batch b(env, 400);
      reset(b);
      for (int v = 0; v < b.sizes.draws; ++v) {
        const auto first = b.state.begin() + v * b.envs;
        const auto [low, high] = std::minmax_element(first, first + b.envs);
        const double from = b.sizes.start.low[v], to = b.sizes.start.high[v];
        EXPECT_GE(*low, from - 1e-8) << twin;
        EXPECT_LE(*high, to + 1e-8) << twin;
        EXPECT_GT(*high - *low, 0.97 * (to - from)) << twin;
      }
      EXPECT_EQ(b.counters[size_t(kEpisode * b.envs)], 1);
      // The next episode of the same environments is another one.
      const std::vector<double> before = b.state;
      reset(b);
      EXPECT_NE(before, b.state) << twin;
    }
  });
}

TEST(NativeEnvsTest, TheFirstEnvThatMayNotStepIsFoundAndNothingIsWritten) {
  on_every_twin([](auto reset, auto step, const std::string& twin) {
    for (const NativeEnv env : kEnvs) {
      for (const int64_t bad : {int64_t(0), int64_t(69)}) {
        Batch b(env, 70);
        reset(b);
        std::mt19937_64 random(5);
        b.draw_actions(random);
        const Batch good = b;
        const auto refused = [&](Batch& spoilt, Autoreset autoreset) {
          const Batch before = spoilt;
          EXPECT_EQ(step(spoilt, 9, autoreset), bad) << twin << ", env " << int64_t(env);
          EXPECT_TRUE(spoilt == before) << twin;
        };
        for (const int64_t choice : {int64_t(-1), int64_t(b.sizes.actions), INT64_MIN}) {
          b = good;
          b.choice[size_t(bad)] = choice;
          b.real[size_t(bad)] = choice == -1 ? NAN : choice < 0 ? -HUGE_VALF : HUGE_VALF;
          refused(b, Autoreset::kNextStep);
        }
        b = good;
        b.counters[size_t(kFinished * b.envs + bad)] = 1;
        refused(b, Autoreset::kDisabled);
        EXPECT_EQ(step(b, 9, Autoreset::kNextStep), b.envs) << twin;
      }
    }
  });
}

// By hand: upright and at rest, pushed to the right.
TEST(NativeEnvsTest, ACartPoleIsPushed) {
  on_every_twin([](auto, auto step, const std::string& twin) {
    Batch b(NativeEnv::kCartPole, 1);
    std::fill(b.state.begin(), b.state.end(), 0.0);
    b.choice[0] = 1;
    step(b, 0, Autoreset::kNextStep);
    const double push = 10 / 1.1, angular = -push / (0.5 * (4.0 / 3 - 0.1 / 1.1));
    EXPECT_EQ(b.state[0], 0) << twin;
    EXPECT_NEAR(b.state[1], 0.02 * (push - 0.05 * angular / 1.1), 1e-15) << twin;
    EXPECT_EQ(b.state[2], 0) << twin;
    EXPECT_NEAR(b.state[3], 0.02 * angular, 1e-15) << twin;
    EXPECT_EQ(b.reward[0], 1) << twin;
    EXPECT_FALSE(b.terminated[0] || b.truncated[0]) << twin;
  });
}

// Gymnasium's own state is float32 there, so ours has to be, in packs too.
TEST(NativeEnvsTest, AContinuousMountainCarIsRoundedToFloat) {
  on_every_twin([](auto reset, auto step, const std::string& twin) {
    Batch b(NativeEnv::kMountainCarContinuous, 16);
    reset(b);
    std::mt19937_64 random(2);
    b.draw_actions(random);
    step(b, 0, Autoreset::kNextStep);
    for (const double x : b.state) EXPECT_EQ(x, double(float(x))) << twin;
  });
}

}  // namespace
}  // namespace machin_fast

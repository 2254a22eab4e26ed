// Many environments of one kind (core/envs), stepped at once: time limits, episodes that begin
// anew, observations, and what is refused.
#pragma once

#include "core/array.h"
#include "core/cuda_stream.h"
#include "core/envs/acrobot.h"
#include "core/envs/cart_pole.h"
#include "core/envs/mountain_car.h"
#include "core/envs/pendulum.h"
#include "core/isa.h"
#include "core/random.h"

namespace machin_fast {

// Numbered as in machin_fast/ops/native_envs.py.
enum class NativeEnv : int64_t {
  kCartPole,
  kPendulum,
  kAcrobot,
  kMountainCar,
  kMountainCarContinuous
};
inline constexpr int64_t kNativeEnvs = 5;

// Calls body.operator()<Env>() with the struct of `env`, which must be one of them.
template <typename Body>
void dispatch_env(NativeEnv env, const Body& body) {
  switch (env) {
    case NativeEnv::kCartPole:
      return body.template operator()<CartPole>();
    case NativeEnv::kPendulum:
      return body.template operator()<Pendulum>();
    case NativeEnv::kAcrobot:
      return body.template operator()<Acrobot>();
    case NativeEnv::kMountainCar:
      return body.template operator()<MountainCar>();
    case NativeEnv::kMountainCarContinuous:
      return body.template operator()<MountainCarContinuous>();
  }
}

// When an episode that is over begins anew: with the next step, whose action then counts nothing;
// within the step that ends it; or when the caller says so.
enum class Autoreset : int64_t { kNextStep, kSameStep, kDisabled };
inline constexpr int64_t kAutoresets = 3;

// Rows of the counters. Of a seed and an episode's number all its draws are a function.
enum Counter : int { kSeed, kEpisode, kElapsed, kFinished, kCounters };

// All a batch of environments keeps from one step to the next.
struct EnvBatch {
  double* state;      // [variables, envs]
  int64_t* counters;  // [kCounters, envs]
  int64_t envs;
  StartBounds start;

  MF_HD int64_t& counter(Counter which, int64_t i) const { return counters[which * envs + i]; }
};

struct EnvReset {
  EnvBatch batch;
  const bool* mask;    // which begin anew; null: all
  float* observation;  // [envs, observation], of all
};

struct EnvStep {
  EnvBatch batch;
  const void* action;  // int64 [envs] or float [envs, 1]
  int64_t limit;       // steps of an episode at most, or 0
  Autoreset autoreset;
  float* observation;  // [envs, observation]
  float* reward;       // [envs], as the others
  bool* terminated;
  bool* truncated;
  // Those before episodes begin anew within the step; null: not asked for.
  float* final_observation;
};

// The first `count` lanes of a pack, from p[i] and to it; those behind are 0.
template <typename T>
MF_HD T load_some(const double* p, int64_t i, int count) {
  if (count == kLanes<T>) return load<T>(p, i);
  double lanes[kLanes<T>] = {};
  for (int lane = 0; lane < count; ++lane) lanes[lane] = p[i + lane];
  return load<T>(lanes, 0);
}
template <typename T>
MF_HD void store_some(double* p, int64_t i, T x, int count) {
  if (count == kLanes<T>) return store<T>(p, i, x);
  double lanes[kLanes<T>];
  store<T>(lanes, 0, x);
  for (int lane = 0; lane < count; ++lane) p[i + lane] = lanes[lane];
}

template <typename Env, typename T>
MF_HD void write_observation(const T* s, float* row, int count) {
  T seen[Env::kObservation];
  Env::template observe<T>(s, seen);
  double numbers[Env::kObservation][kLanes<T>];
  for (int k = 0; k < Env::kObservation; ++k) store<T>(numbers[k], 0, seen[k]);
  for (int lane = 0; lane < count; ++lane) {
    for (int k = 0; k < Env::kObservation; ++k) {
      row[lane * Env::kObservation + k] = float(numbers[k][lane]);
    }
  }
}

// Begins environment i's next episode.
template <typename Env>
MF_HD void begin_episode(const EnvBatch& batch, int64_t i, float* observation) {
  const uint64_t seed =
      seed_of_call(uint64_t(batch.counter(kSeed, i)), uint64_t(batch.counter(kEpisode, i)));
  double draw[Env::kDraws], s[Env::kVariables];
  for (int k = 0; k < Env::kDraws; ++k) {
    const double low = batch.start.low[k], high = batch.start.high[k];
    draw[k] = low + (high - low) * uniform_draw(seed, uint64_t(k));
  }
  Env::begin(draw, s);
  for (int v = 0; v < Env::kVariables; ++v) batch.state[v * batch.envs + i] = s[v];
  batch.counter(kEpisode, i) += 1;
  batch.counter(kElapsed, i) = 0;
  batch.counter(kFinished, i) = 0;
  write_observation<Env, double>(s, observation + i * Env::kObservation, 1);
}

template <typename Env>
MF_HD void reset_env(const EnvReset& args, int64_t i) {
  const EnvBatch& batch = args.batch;
  if (args.mask == nullptr || args.mask[i]) return begin_episode<Env>(batch, i, args.observation);
  double s[Env::kVariables];
  for (int v = 0; v < Env::kVariables; ++v) s[v] = batch.state[v * batch.envs + i];
  write_observation<Env, double>(s, args.observation + i * Env::kObservation, 1);
}

template <typename Env>
MF_HD bool action_allowed(const void* action, int64_t i) {
  if constexpr (Env::kActions > 0) {
    return uint64_t(static_cast<const int64_t*>(action)[i]) < uint64_t(Env::kActions);
  } else {
    const float x = static_cast<const float*>(action)[i];
    return x - x == 0;  // neither infinite nor NaN
  }
}

// An environment that waits for a reset by the caller takes no step.
template <typename Env>
MF_HD bool step_allowed(const EnvStep& args, int64_t i) {
  const bool waits =
      args.autoreset == Autoreset::kDisabled && args.batch.counter(kFinished, i) != 0;
  return action_allowed<Env>(args.action, i) && !waits;
}

// Steps the environments [first, first + count), at most as many as T has lanes.
template <typename Env, typename T>
MF_HD void step_pack(const EnvStep& args, int64_t first, int count) {
  const EnvBatch& batch = args.batch;
  double action[kLanes<T>] = {}, reward[kLanes<T>], end[kLanes<T>];
  for (int lane = 0; lane < count; ++lane) {
    if constexpr (Env::kActions > 0) {
      action[lane] = double(static_cast<const int64_t*>(args.action)[first + lane]);
    } else {
      action[lane] = double(static_cast<const float*>(args.action)[first + lane]);
    }
  }
  T s[Env::kVariables];
  for (int v = 0; v < Env::kVariables; ++v) {
    s[v] = load_some<T>(batch.state, v * batch.envs + first, count);
  }
  const Outcome<T> outcome = Env::template step<T>(s, load<T>(action, 0));
  for (int v = 0; v < Env::kVariables; ++v) {
    store_some<T>(batch.state, v * batch.envs + first, s[v], count);
  }
  store<T>(reward, 0, outcome.reward);
  store<T>(end, 0, select<T>(outcome.terminated, splat<T>(1), T{}));
  write_observation<Env, T>(s, args.observation + first * Env::kObservation, count);

  // Without branches, so that it vectorises.
  const bool next_step = args.autoreset == Autoreset::kNextStep;
  const bool same_step = args.autoreset == Autoreset::kSameStep;
  const bool limited = args.limit > 0;
  int64_t* const elapsed = &batch.counter(kElapsed, first);
  int64_t* const finished = &batch.counter(kFinished, first);
  bool restarts[kLanes<T>], any = false;
  for (int lane = 0; lane < count; ++lane) {
    const bool begins = next_step & (finished[lane] != 0);
    elapsed[lane] += 1;
    const bool terminated = !begins & (end[lane] != 0);
    const bool truncated = !begins & limited & (elapsed[lane] >= args.limit);
    finished[lane] = terminated | truncated;
    args.reward[first + lane] = begins ? 0 : float(reward[lane]);
    args.terminated[first + lane] = terminated;
    args.truncated[first + lane] = truncated;
    restarts[lane] = begins | (same_step & (terminated | truncated));
    any |= restarts[lane];
  }
  if (args.final_observation != nullptr) {
    const int64_t begin = first * Env::kObservation, end = begin + count * Env::kObservation;
    for (int64_t k = begin; k < end; ++k) args.final_observation[k] = args.observation[k];
  }
  if (!any) return;
  for (int lane = 0; lane < count; ++lane) {
    if (restarts[lane]) begin_episode<Env>(batch, first + lane, args.observation);
  }
}

// The checked work on CPU arrays: the torch ops and the direct call (bindings/direct.cpp) share it.
struct EnvStepArrays {
  Array state, counters, action, observation, reward, terminated, truncated;
  const Array* final_observation;  // may be null
};
void native_envs_step_cpu(int64_t env, const EnvStepArrays& arrays, int64_t limit,
                          int64_t autoreset);

// CPU. Environments [begin, end).
MF_PER_ISA(void step_envs(NativeEnv env, const EnvStep& args, int64_t begin, int64_t end))
MF_PER_ISA(void reset_envs(NativeEnv env, const EnvReset& args, int64_t begin, int64_t end))
// CPU. The first environment that may not take this step, or their number.
MF_PER_ISA(int64_t refused_env(NativeEnv env, const EnvStep& args))

// CUDA. `status` gets the first environment that may not take this step, or their number; then
// nothing else is written.
void launch_step_envs(NativeEnv env, const EnvStep& args, int64_t* status, CudaStream stream);
void launch_reset_envs(NativeEnv env, const EnvReset& args, CudaStream stream);

}  // namespace machin_fast

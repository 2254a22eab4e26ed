// n-step returns (Sutton and Barto 2018, eq. 7.1), without the bootstrap value itself.
#pragma once

#include "core/cuda_stream.h"
#include "core/linear_recurrence.h"

namespace machin_fast {

// Row i sums the rewards of rows i, i + envs, ... up to n of them, fewer where the episode or the
// recording ends. The target is reward_sum + discount * V(next state of row last_row).
template <typename N>
struct NstepArgs {
  const N* reward;
  const bool* terminated;
  const bool* truncated;
  N* reward_sum;
  N* discount;  // gamma^(rewards summed), 0 if the last of them terminated
  int64_t* last_row;
  N gamma;
  int64_t n;
};

// kLanes<T> neighbouring rows from i, of each of which `count` <= n rows are recorded.
// Walks back from the far end, so that what lies behind a cut is dropped, not subtracted.
template <typename T, typename N>
MF_HD void nstep_window(const NstepArgs<N>& args, int64_t i, int64_t envs, int64_t count) {
  T sum{}, discount = splat<T>(1), steps = splat<T>(N(count - 1));
  for (int64_t k = count - 1; k >= 0; --k) {
    const int64_t row = i + k * envs;
    const Mask<T> end = load_flag<T>(args.terminated, row);
    const Mask<T> cut = end | load_flag<T>(args.truncated, row);
    sum = load<T>(args.reward, row) + select<T>(cut, T{}, args.gamma * sum);
    discount = select<T>(cut, splat<T>(args.gamma), args.gamma * discount);
    discount = select<T>(end, T{}, discount);
    steps = select<T>(cut, splat<T>(N(k)), steps);
  }
  store<T>(args.reward_sum, i, sum);
  store<T>(args.discount, i, discount);
  if constexpr (kLanes<T> == 1) {
    args.last_row[i] = i + int64_t(steps) * envs;
  } else {
    for (int l = 0; l < kLanes<T>; ++l) {
      args.last_row[i + l] = i + l + int64_t(steps[l]) * envs;
    }
  }
}

// Steps [begin, end) of a time-major rollout; rows [begin, end) of a flat one.
MF_PER_ISA(template <typename N> void nstep_steps(const NstepArgs<N>& args,
                                                  const RolloutLayout& layout, int64_t begin,
                                                  int64_t end))

// `scratch` is device memory for the bounds, segments + 1 numbers; null if there is one segment.
template <typename N>
void launch_nstep(const NstepArgs<N>& args, const RolloutLayout& layout, int64_t* scratch,
                  CudaStream stream);

}  // namespace machin_fast

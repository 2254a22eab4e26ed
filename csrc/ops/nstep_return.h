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

// Writes the rows that lie `steps` steps ahead of kLanes<T> neighbouring rows from i. What the
// compiler makes of the plain loop takes a third of the whole op.
template <typename T>
MF_HD void store_last_rows(int64_t* last_row, T steps, int64_t i, int64_t envs) {
  if constexpr (kLanes<T> == 1) {
    last_row[0] = i + int64_t(steps) * envs;
  } else {
#if defined(__AVX512F__) && !defined(__CUDACC__)
    __m512i row = _mm512_add_epi64(_mm512_set1_epi64(i), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    const auto store8 = [&](int64_t* at, __m512i ahead) {
      // Steps have 24 bits and 64-bit products of 32-bit numbers are cheap, so envs comes in two.
      const __m512i low = _mm512_mul_epu32(ahead, _mm512_set1_epi64(envs));
      const __m512i high = _mm512_mul_epu32(ahead, _mm512_set1_epi64(envs >> 32));
      _mm512_storeu_si512(at, row + low + _mm512_slli_epi64(high, 32));
      row = _mm512_add_epi64(row, _mm512_set1_epi64(8));
    };
    if constexpr (kLanes<T> == 16) {
      const __m512i ahead = _mm512_maskz_cvttps_epi32(0xFFFF, steps);
      store8(last_row, _mm512_maskz_cvtepi32_epi64(0xFF, _mm512_castsi512_si256(ahead)));
      store8(last_row + 8,
             _mm512_maskz_cvtepi32_epi64(0xFF, _mm512_maskz_extracti64x4_epi64(0xF, ahead, 1)));
    } else {
      store8(last_row, _mm512_maskz_cvttpd_epi64(0xFF, steps));
    }
#else
    for (int l = 0; l < kLanes<T>; ++l) last_row[l] = i + l + int64_t(steps[l]) * envs;
#endif
  }
}

// kLanes<T> neighbouring rows from i, of each of which `count` <= n rows are recorded.
// Walks back from the far end, so that what lies behind a cut is dropped, not subtracted.
template <typename T, typename N>
MF_HD void nstep_window(const NstepArgs<N>& args, int64_t i, int64_t envs, int64_t count) {
  const T gamma = splat<T>(args.gamma);
  T sum{}, discount = splat<T>(1), at = splat<T>(N(count - 1)), steps = at;
  for (int64_t k = count - 1; k >= 0; --k, at = at - N(1)) {
    const int64_t row = i + k * envs;
    const Mask<T> end = load_flag<T>(args.terminated, row);
    const Mask<T> cut = end | load_flag<T>(args.truncated, row);
    const T r = load<T>(args.reward, row);
    sum = select<T>(cut, r, r + gamma * sum);
    discount = select<T>(cut, select<T>(end, T{}, gamma), gamma * discount);
    steps = select<T>(cut, at, steps);
  }
  store<T>(args.reward_sum, i, sum);
  store<T>(args.discount, i, discount);
  store_last_rows(args.last_row + i, steps, i, envs);
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

// What the environments of this folder share. Each is a struct that says what Gymnasium's
// environment of that name does (Towers et al. 2024, arXiv:2407.17032), for T double, or a pack of
// doubles, a lane for each environment:
//
//   struct CartPole {
//     static constexpr int kVariables = 4;    // float64, of its state
//     static constexpr int kObservation = 4;  // float32
//     static constexpr int kActions = 2;      // to choose from; 0: an action is one float32
//     static constexpr int kDraws = 4;        // uniform numbers that an episode begins with
//     static StartBounds start();             // in which they lie, unless the caller says else
//     MF_HD static void begin(const double* draw, double* s);
//     template <typename T> MF_HD static Outcome<T> step(T* s, T action);
//     template <typename T> MF_HD static void observe(const T* s, T* seen);
//   };
//
// csrc/ops/native_envs.h runs them.
#pragma once

#include "core/sin_cos.h"

namespace machin_fast {

inline constexpr double kPi = 0x1.921fb54442d18p+1;
inline constexpr int kMostDraws = 4;

struct StartBounds {
  double low[kMostDraws], high[kMostDraws];
};

template <typename T>
struct Outcome {
  T reward;
  Mask<T> terminated;
};

template <typename T>
MF_HD T clamp(T x, double low, double high) {
  const T bottom = splat<T>(low), top = splat<T>(high);
  x = select<T>(less<T>(x, bottom), bottom, x);
  return select<T>(less<T>(top, x), top, x);
}

// x + 2 pi k, in [-pi, pi].
template <typename T>
MF_HD T wrap_angle(T x) {
  return x - nearest<T>(x * (0.5 / kPi)) * (2 * kPi);
}

// What is left of x where Gymnasium computes in float32. By a conversion of whole packs: of one
// lane by lane gcc 12 leaves nothing but x.
template <typename T>
MF_HD T as_float(T x) {
#ifndef __CUDACC__
  if constexpr (kLanes<T> > 1) {
    typedef float Floats __attribute__((vector_size(sizeof(T) / 2)));
    return __builtin_convertvector(__builtin_convertvector(x, Floats), T);
  } else
#endif
  {
    return double(float(x));
  }
}

}  // namespace machin_fast

// A pole on a cart that is pushed to the left or to the right (Barto, Sutton and Anderson 1983,
// doi:10.1109/TSMC.1983.6313077; without friction).
#pragma once

#include "core/envs/env.h"

namespace machin_fast {

struct CartPole {
  static constexpr int kVariables = 4;  // x, its speed, angle, its speed
  static constexpr int kObservation = 4;
  static constexpr int kActions = 2;
  static constexpr int kDraws = 4;

  static StartBounds start() { return {{-0.05, -0.05, -0.05, -0.05}, {0.05, 0.05, 0.05, 0.05}}; }

  MF_HD static void begin(const double* draw, double* s) {
    for (int v = 0; v < kVariables; ++v) s[v] = draw[v];
  }

  template <typename T>
  MF_HD static Outcome<T> step(T* s, T action) {
    constexpr double kGravity = 9.8, kPole = 0.1, kTotal = 1.1, kHalfLength = 0.5, kForce = 10;
    constexpr double kTau = 0.02, kFarthest = 2.4, kSteepest = 12 * 2 * kPi / 360;
    const auto [sin, cos] = sin_cos<T>(s[2]);
    const T force = action * (2 * kForce) - kForce;
    const T push = (force + kPole * kHalfLength * (s[3] * s[3]) * sin) / kTotal;
    const T angular =
        (kGravity * sin - cos * push) / (kHalfLength * (4.0 / 3.0 - kPole * (cos * cos) / kTotal));
    const T linear = push - kPole * kHalfLength * angular * cos / kTotal;
    s[0] = s[0] + kTau * s[1];
    s[1] = s[1] + kTau * linear;
    s[2] = s[2] + kTau * s[3];
    s[3] = s[3] + kTau * angular;
    const Mask<T> off = less<T>(splat<T>(kFarthest), s[0]) | less<T>(s[0], splat<T>(-kFarthest));
    const Mask<T> fallen = less<T>(splat<T>(kSteepest), s[2]) | less<T>(s[2], splat<T>(-kSteepest));
    return {splat<T>(1), Mask<T>(off | fallen)};
  }

  template <typename T>
  MF_HD static void observe(const T* s, T* seen) {
    for (int v = 0; v < kObservation; ++v) seen[v] = s[v];
  }
};

}  // namespace machin_fast

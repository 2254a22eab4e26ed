// A pendulum that a torque shall bring upright and keep there. It never terminates.
#pragma once

#include "core/envs/env.h"

namespace machin_fast {

struct Pendulum {
  static constexpr int kVariables = 2;  // angle, its speed
  static constexpr int kObservation = 3;
  static constexpr int kActions = 0;
  static constexpr int kDraws = 2;

  static StartBounds start() { return {{-kPi, -1}, {kPi, 1}}; }

  MF_HD static void begin(const double* draw, double* s) {
    s[0] = draw[0];
    s[1] = draw[1];
  }

  template <typename T>
  MF_HD static Outcome<T> step(T* s, T action) {
    constexpr double kTorque = 2, kFastest = 8, kTau = 0.05, kGravity = 10;
    const T torque = clamp<T>(action, -kTorque, kTorque);
    const T angle = wrap_angle<T>(s[0]);
    const T cost = angle * angle + 0.1 * (s[1] * s[1]) + as_float<T>(0.001 * (torque * torque));
    const T faster = 3 * kGravity / 2 * sin_cos<T>(s[0]).sin + as_float<T>(3 * torque);
    s[1] = clamp<T>(s[1] + faster * kTau, -kFastest, kFastest);
    s[0] = s[0] + s[1] * kTau;
    return {-cost, splat_mask<T>(false)};
  }

  template <typename T>
  MF_HD static void observe(const T* s, T* seen) {
    const auto [sin, cos] = sin_cos<T>(s[0]);
    seen[0] = cos;
    seen[1] = sin;
    seen[2] = s[1];
  }
};

}  // namespace machin_fast

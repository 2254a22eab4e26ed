// Two links that hang from a pivot; a torque between them shall swing the tip up. Dynamics of
// Sutton and Barto 1998, Reinforcement Learning, section 11.3, by one step of Runge and Kutta's
// method of order 4.
#pragma once

#include "core/envs/env.h"

namespace machin_fast {

struct Acrobot {
  static constexpr int kVariables = 4;  // two angles, their speeds
  static constexpr int kObservation = 6;
  static constexpr int kActions = 3;
  static constexpr int kDraws = 4;

  static StartBounds start() { return {{-0.1, -0.1, -0.1, -0.1}, {0.1, 0.1, 0.1, 0.1}}; }

  MF_HD static void begin(const double* draw, double* s) {
    for (int v = 0; v < kVariables; ++v) s[v] = as_float<double>(draw[v]);
  }

  template <typename T>
  MF_HD static Outcome<T> step(T* s, T action) {
    constexpr double kTau = 0.2;
    const T torque = action - 1;
    T slope[kVariables], sum[kVariables], at[kVariables];
    for (int v = 0; v < kVariables; ++v) sum[v] = T{}, at[v] = s[v];
    for (int stage = 0; stage < 4; ++stage) {
      accelerate<T>(at, torque, slope);
      const double weight = stage == 0 || stage == 3 ? 1 : 2, reach = stage == 2 ? kTau : kTau / 2;
      for (int v = 0; v < kVariables; ++v) {
        sum[v] = sum[v] + weight * slope[v];
        at[v] = s[v] + reach * slope[v];
      }
    }
    for (int v = 0; v < kVariables; ++v) s[v] = s[v] + kTau / 6 * sum[v];
    s[0] = wrap_angle<T>(s[0]);
    s[1] = wrap_angle<T>(s[1]);
    s[2] = clamp<T>(s[2], -4 * kPi, 4 * kPi);
    s[3] = clamp<T>(s[3], -9 * kPi, 9 * kPi);
    const T tip = -sin_cos<T>(s[0]).cos - sin_cos<T>(s[0] + s[1]).cos;
    const Mask<T> up = less<T>(splat<T>(1), tip);
    return {select<T>(up, T{}, splat<T>(-1)), up};
  }

  template <typename T>
  MF_HD static void observe(const T* s, T* seen) {
    for (int joint = 0; joint < 2; ++joint) {
      const auto [sin, cos] = sin_cos<T>(s[joint]);
      seen[2 * joint] = cos;
      seen[2 * joint + 1] = sin;
    }
    seen[4] = s[2];
    seen[5] = s[3];
  }

 private:
  // The time derivative of the state. Masses, lengths and moments of inertia are 1, centres of mass
  // are in the middle.
  template <typename T>
  MF_HD static void accelerate(const T* s, T torque, T* slope) {
    constexpr double kGravity = 9.8, kCentre = 0.5;
    const auto [sin2, cos2] = sin_cos<T>(s[1]);
    // Angles are from hanging down: cos(angle - pi/2) is a sine.
    const T phi2 = kCentre * kGravity * sin_cos<T>(s[0] + s[1]).sin;
    const T phi1 = -kCentre * (s[3] * s[3]) * sin2 - 2 * kCentre * s[3] * s[2] * sin2 +
                   (kCentre + 1) * kGravity * sin_cos<T>(s[0]).sin + phi2;
    const T d1 = kCentre * kCentre + (1 + kCentre * kCentre + 2 * kCentre * cos2) + 2;
    const T d2 = kCentre * kCentre + kCentre * cos2 + 1;
    const T share = d2 / d1;
    slope[0] = s[2];
    slope[1] = s[3];
    slope[3] = (torque + share * phi1 - kCentre * (s[2] * s[2]) * sin2 - phi2) /
               (kCentre * kCentre + 1 - share * d2);
    slope[2] = -(d2 * slope[3] + phi1) / d1;
  }
};

}  // namespace machin_fast

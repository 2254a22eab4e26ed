// A car in a valley whose engine is too weak to climb straight out of it (Moore 1990, "Efficient
// memory-based learning for robot control"), with three actions, and with a force as action.
#pragma once

#include "core/envs/env.h"

namespace machin_fast {

struct Valley {
  static constexpr int kVariables = 2;  // position, speed
  static constexpr int kObservation = 2;
  static constexpr int kDraws = 1;
  static constexpr double kGravity = 0.0025, kLeft = -1.2, kRight = 0.6;

  static StartBounds start() { return {{-0.6}, {-0.4}}; }

  MF_HD static void begin(const double* draw, double* s) {
    s[0] = draw[0];
    s[1] = 0;
  }

  template <typename T>
  MF_HD static void observe(const T* s, T* seen) {
    seen[0] = s[0];
    seen[1] = s[1];
  }

  // At the left end the car stands.
  template <typename T>
  MF_HD static void stop_at_wall(T* s) {
    const T stopped = select<T>(less<T>(s[1], T{}), T{}, s[1]);
    s[1] = select<T>(equal<T>(s[0], splat<T>(kLeft)), stopped, s[1]);
  }

  template <typename T>
  MF_HD static Mask<T> arrived(const T* s, double goal) {
    const Mask<T> before = less<T>(s[0], splat<T>(goal)), back = less<T>(s[1], T{});
    return equal<T>(select<T>(before | back, splat<T>(1), T{}), T{});
  }
};

struct MountainCar : Valley {
  static constexpr int kActions = 3;

  template <typename T>
  MF_HD static Outcome<T> step(T* s, T action) {
    constexpr double kForce = 0.001, kFastest = 0.07, kGoal = 0.5;
    s[1] = s[1] + ((action - 1) * kForce - kGravity * sin_cos<T>(3 * s[0]).cos);
    s[1] = clamp<T>(s[1], -kFastest, kFastest);
    s[0] = clamp<T>(s[0] + s[1], kLeft, kRight);
    stop_at_wall<T>(s);
    return {splat<T>(-1), arrived<T>(s, kGoal)};
  }
};

// Gymnasium keeps this one's state in float32.
struct MountainCarContinuous : Valley {
  static constexpr int kActions = 0;

  template <typename T>
  MF_HD static Outcome<T> step(T* s, T action) {
    constexpr double kPower = 0.0015f, kFastest = 0.07f, kGoal = 0.45f;
    const T push = as_float<T>(clamp<T>(action, -1, 1) * kPower);
    const T pull = as_float<T>(kGravity * sin_cos<T>(3 * s[0]).cos);
    s[1] = as_float<T>(s[1] + as_float<T>(push - pull));
    s[1] = clamp<T>(s[1], -kFastest, kFastest);
    s[0] = clamp<T>(as_float<T>(s[0] + s[1]), kLeft, kRight);
    stop_at_wall<T>(s);
    s[0] = as_float<T>(s[0]);
    s[1] = as_float<T>(s[1]);
    const Mask<T> up = arrived<T>(s, kGoal);
    return {select<T>(up, splat<T>(100), T{}) - 0.1 * (action * action), up};
  }
};

}  // namespace machin_fast

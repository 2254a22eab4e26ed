// Generalized advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16).
#pragma once

#include "core/linear_recurrence.h"

namespace machin_fast {

//   delta_t = r_t + gamma * V(s_{t+1}) * (1 - terminated_t) - V(s_t)
//   A_t     = delta_t + gamma * lambda * (1 - done_t) * A_{t+1}
// The value target is A_t + V(s_t), the lambda-return.
template <typename N>
struct Gae {
  using Number = N;
  static constexpr bool kForward = false;
  static constexpr bool kConstantDecay = true;

  const N* reward;
  const N* value;
  const N* next_value;
  const bool* terminated;
  const bool* truncated;
  N* advantage;
  N* value_target;
  N gamma, lambda;

  N decay() const { return gamma * lambda; }

  template <typename T>
  struct Terms {
    Affine<T> map;
    Mask<T> cut;
    T value;
  };

  template <typename T>
  MF_HD Terms<T> load(int64_t i, Mask<T> last) const {
    const Mask<T> end = load_flag<T>(terminated, i);
    const Mask<T> cut = end | load_flag<T>(truncated, i) | last;
    const T v = machin_fast::load<T>(value, i);
    const T next = gamma * machin_fast::load<T>(next_value, i);
    const T delta = machin_fast::load<T>(reward, i) + select<T>(end, T{}, next) - v;
    return {{delta, select<T>(cut, T{}, splat<T>(gamma * lambda))}, cut, v};
  }

  template <typename T>
  MF_HD void store(int64_t i, const Terms<T>& terms, T x, T) const {
    machin_fast::store<T>(advantage, i, x);
    machin_fast::store<T>(value_target, i, x + terms.value);
  }
};

}  // namespace machin_fast

// The discounted sum of rewards to the end of the episode (Sutton and Barto 2018, eq. 3.9).
#pragma once

#include "core/linear_recurrence.h"

namespace machin_fast {

//   G_t = r_t + gamma G_{t+1}        while the episode goes on,
//   G_t = r_t                        where it terminates,
//   G_t = r_t + gamma V(s_{t+1})     where it is cut short; without next_value V is 0.
template <typename N>
struct DiscountedReturn {
  using Number = N;
  static constexpr bool kForward = false;
  static constexpr bool kConstantDecay = true;

  const N* reward;
  const N* next_value;  // may be null
  const bool* terminated;
  const bool* truncated;
  N* result;
  N gamma;

  N decay() const { return gamma; }

  template <typename T>
  struct Terms {
    Affine<T> map;
    Mask<T> cut;
  };

  template <typename T>
  MF_HD Terms<T> load(int64_t i, Mask<T> last) const {
    const Mask<T> end = load_flag<T>(terminated, i);
    const Mask<T> cut = end | load_flag<T>(truncated, i) | last;
    T b = machin_fast::load<T>(reward, i);
    if (next_value != nullptr) {
      const T next = gamma * machin_fast::load<T>(next_value, i);
      b = b + select<T>(cut, select<T>(end, T{}, next), T{});
    }
    return {{b, select<T>(cut, T{}, splat<T>(gamma))}, cut};
  }

  template <typename T>
  MF_HD void store(int64_t i, const Terms<T>&, T x, T) const {
    machin_fast::store<T>(result, i, x);
  }
};

}  // namespace machin_fast

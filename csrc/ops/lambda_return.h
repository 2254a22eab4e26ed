// The lambda-return (Sutton and Barto 2018, eq. 12.18 with a fixed policy) and its gradient.
#pragma once

#include "core/linear_recurrence.h"

namespace machin_fast {

//   G_t = r_t + gamma ((1 - lambda) V(s_{t+1}) + lambda G_{t+1})   while the episode goes on,
//   G_t = r_t                                                      where it terminates,
//   G_t = r_t + gamma V(s_{t+1})                                   where it is cut short.
template <typename N>
struct LambdaReturn {
  using Number = N;
  static constexpr bool kForward = false;
  static constexpr bool kConstantDecay = true;

  const N* reward;
  const N* next_value;
  const bool* terminated;
  const bool* truncated;
  N* result;
  N gamma, lambda;

  N decay() const { return gamma * lambda; }

  template <typename T>
  struct Terms {
    Affine<T> map;
    Mask<T> cut;
  };

  template <typename T>
  MF_HD Terms<T> load(int64_t i, Mask<T> last) const {
    const Mask<T> end = load_flag<T>(terminated, i);
    const Mask<T> cut = end | load_flag<T>(truncated, i) | last;
    const T next = gamma * machin_fast::load<T>(next_value, i);
    const T share = select<T>(cut, next, (1 - lambda) * next);
    return {{machin_fast::load<T>(reward, i) + select<T>(end, T{}, share),
             select<T>(cut, T{}, splat<T>(gamma * lambda))},
            cut};
  }

  template <typename T>
  MF_HD void store(int64_t i, const Terms<T>&, T x, T) const {
    machin_fast::store<T>(result, i, x);
  }
};

// What reaches step t from all returns before it, g_t, runs forwards in time:
//   g_t             = grad_t + h_{t-1},   h_t = gamma lambda (1 - done_t) g_t
//   grad_reward     = g_t
//   grad_next_value = gamma (1 - lambda) g_t, gamma g_t where cut short, 0 where terminated.
// With lambda = 1 this is the gradient of the discounted return.
template <typename N>
struct LambdaReturnBackward {
  using Number = N;
  static constexpr bool kForward = true;
  static constexpr bool kConstantDecay = true;

  const N* grad;
  const bool* terminated;
  const bool* truncated;
  N* grad_reward;
  N* grad_next_value;
  N gamma, lambda;

  N decay() const { return gamma * lambda; }

  template <typename T>
  struct Terms {
    Affine<T> map;
    T grad;
    Mask<T> end, cut;
  };

  template <typename T>
  MF_HD Terms<T> load(int64_t i, Mask<T> last) const {
    const Mask<T> end = load_flag<T>(terminated, i);
    const Mask<T> cut = end | load_flag<T>(truncated, i) | last;
    const T g = machin_fast::load<T>(grad, i);
    const T decay = splat<T>(gamma * lambda);
    return {{select<T>(cut, T{}, decay * g), select<T>(cut, T{}, decay)}, g, end, cut};
  }

  template <typename T>
  MF_HD void store(int64_t i, const Terms<T>& terms, T, T previous_h) const {
    const T g = terms.grad + previous_h;
    const T share = select<T>(terms.cut, splat<T>(gamma), splat<T>(gamma * (1 - lambda)));
    machin_fast::store<T>(grad_reward, i, g);
    machin_fast::store<T>(grad_next_value, i, select<T>(terms.end, T{}, share * g));
  }
};

}  // namespace machin_fast

// V-trace (Espeholt et al. 2018, arXiv:1802.01561, eq. 1 and section 4.2).
#pragma once

#include "core/exp.h"
#include "core/linear_recurrence.h"

namespace machin_fast {

// With w_t = pi(a_t | s_t) / mu(a_t | s_t), rho_t = min(w_t, rho_clip), c_t = lambda min(w_t,
// c_clip):
//   delta_t   = r_t + gamma V(s_{t+1}) (1 - terminated_t) - V(s_t)
//   x_t       = rho_t delta_t + gamma c_t (1 - done_t) x_{t+1}
//   target_t  = V(s_t) + x_t
//   A_t       = min(w_t, advantage_rho_clip) (delta_t + gamma (1 - done_t) x_{t+1})
// x_{t+1} is target_{t+1} - V(s_{t+1}), so A_t bootstraps from the target, as section 4.2 asks.
template <typename N>
struct Vtrace {
  using Number = N;
  static constexpr bool kForward = false;
  static constexpr bool kConstantDecay = false;

  const N* behavior_log_prob;
  const N* target_log_prob;
  const N* reward;
  const N* value;
  const N* next_value;
  const bool* terminated;
  const bool* truncated;
  N* advantage;
  N* value_target;
  N gamma, lambda, rho_clip, c_clip, advantage_rho_clip;

  template <typename T>
  struct Terms {
    Affine<T> map;
    T value, delta, weight;
    Mask<T> cut;
  };

  template <typename T>
  MF_HD Terms<T> load(int64_t i, Mask<T> last) const {
    const Mask<T> end = load_flag<T>(terminated, i);
    const Mask<T> cut = end | load_flag<T>(truncated, i) | last;
    const T weight = exp_lanes<T>(machin_fast::load<T>(target_log_prob, i) -
                                  machin_fast::load<T>(behavior_log_prob, i));
    const T v = machin_fast::load<T>(value, i);
    const T next = gamma * machin_fast::load<T>(next_value, i);
    const T delta = machin_fast::load<T>(reward, i) + select<T>(end, T{}, next) - v;
    const T decay = gamma * lambda * clip_above<T>(weight, c_clip);
    return {{clip_above<T>(weight, rho_clip) * delta, select<T>(cut, T{}, decay)},
            v,
            delta,
            clip_above<T>(weight, advantage_rho_clip),
            cut};
  }

  template <typename T>
  MF_HD void store(int64_t i, const Terms<T>& terms, T x, T next_x) const {
    const T ahead = select<T>(terms.cut, T{}, gamma * next_x);
    machin_fast::store<T>(advantage, i, terms.weight * (terms.delta + ahead));
    machin_fast::store<T>(value_target, i, terms.value + x);
  }
};

}  // namespace machin_fast

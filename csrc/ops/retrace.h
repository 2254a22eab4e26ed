// Retrace(lambda) (Munos et al. 2016, arXiv:1606.02647, eq. 3 and 4).
#pragma once

#include "core/exp.h"
#include "core/linear_recurrence.h"

namespace machin_fast {

// With c_t = lambda min(1, pi(a_t | s_t) / mu(a_t | s_t)) and V(s) = E_pi Q(s, a):
//   delta_t  = r_t + gamma V(s_{t+1}) (1 - terminated_t) - Q(s_t, a_t)
//   target_t = Q(s_t, a_t) + delta_t + gamma (1 - done_t) y_{t+1}
//   y_t      = c_t (target_t - Q(s_t, a_t))
// y is what recurs: it carries the coefficient of the *next* step, as eq. 4 has it.
template <typename N>
struct Retrace {
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
  N* target;
  N gamma, lambda;

  template <typename T>
  struct Terms {
    Affine<T> map;
    T one_step;  // r + gamma V(s'), the target without its trace
    Mask<T> cut;
  };

  template <typename T>
  MF_HD Terms<T> load(int64_t i, Mask<T> last) const {
    const Mask<T> end = load_flag<T>(terminated, i);
    const Mask<T> cut = end | load_flag<T>(truncated, i) | last;
    const T weight = exp_lanes<T>(machin_fast::load<T>(target_log_prob, i) -
                                  machin_fast::load<T>(behavior_log_prob, i));
    const T c = lambda * clip_above<T>(weight, N(1));
    const T next = gamma * machin_fast::load<T>(next_value, i);
    const T one_step = machin_fast::load<T>(reward, i) + select<T>(end, T{}, next);
    const T delta = one_step - machin_fast::load<T>(value, i);
    return {{c * delta, select<T>(cut, T{}, gamma * c)}, one_step, cut};
  }

  template <typename T>
  MF_HD void store(int64_t i, const Terms<T>& terms, T, T next_y) const {
    const T ahead = select<T>(terms.cut, T{}, gamma * next_y);
    machin_fast::store<T>(target, i, terms.one_step + ahead);
  }
};

}  // namespace machin_fast

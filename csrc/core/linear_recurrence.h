// Every return estimator here is one linear recurrence along time,
//   x_t = b_t + a_t * x_{t+1},
// and an estimator is a struct that says what b_t and a_t are and what to write once x_t is known:
//
//   template <typename N> struct Gae {             // N: float or double
//     using Number = N;
//     static constexpr bool kForward = false;      // true: x_t depends on x_{t-1} instead
//     static constexpr bool kConstantDecay = true; // a_t is decay() wherever it is not 0
//     N decay() const;
//     template <typename T> struct Terms { Affine<T> map; Mask<T> cut; ... };  // cut: a_t is 0
//     template <typename T> MF_HD Terms<T> load(int64_t i, Mask<T> last) const;
//     template <typename T> MF_HD void store(int64_t i, const Terms<T>&, T x, T neighbour) const;
//   };
//
// `i` is the row's place in memory, `last` says that the recorded segment stops at this row, so
// that it bootstraps from its own next value. `neighbour` is x_{t+1} (x_{t-1} if kForward).
// The drivers below walk these structs.
#pragma once

#include "core/cuda_stream.h"
#include "core/isa.h"
#include "core/vec.h"

namespace machin_fast {

// x -> b + a * x. A coefficient of exactly 0 cuts: whatever x is, NaN included, the value is b.
template <typename T>
struct Affine {
  T b;
  T a;
};

template <typename T>
MF_HD T apply(const Affine<T>& f, T x) {
  return select<T>(equal(f.a, T{}), f.b, f.b + f.a * x);
}

// f after g: x -> f(g(x)).
template <typename T>
MF_HD Affine<T> compose(const Affine<T>& f, const Affine<T>& g) {
  return {apply(f, g.b), select<T>(equal(f.a, T{}), T{}, f.a * g.a)};
}

// Where the rows of a rollout lie. Time-major: row t of env b is at t * envs + b, and bounds is
// null. Flat: envs is 1 and segment s is the rows [bounds[s], bounds[s + 1]).
struct RolloutLayout {
  int64_t steps;
  int64_t envs;
  const int64_t* bounds = nullptr;
  int64_t segments = 1;
};

// The drivers: recurrence_cpu.h and recurrence_cuda.h define them, each estimator's _cpu.cpp and
// .cu instantiate them.

// Envs [begin, end) of a time-major rollout.
MF_PER_ISA(template <typename Op> void recur_columns(const Op& op, const RolloutLayout& layout,
                                                     int64_t begin, int64_t end))

// Segments [begin, end) of a flat one.
MF_PER_ISA(template <typename Op>
           void recur_flat(const Op& op, const RolloutLayout& layout, int64_t begin, int64_t end))

// A rollout in device memory, but for its bounds, which are in host memory. `scratch` is device
// memory of recurrence_scratch<Op>(layout) bytes.
template <typename Op>
int64_t recurrence_scratch(const RolloutLayout& layout);
template <typename Op>
void launch_recurrence(const Op& op, const RolloutLayout& layout, void* scratch, CudaStream stream);

}  // namespace machin_fast

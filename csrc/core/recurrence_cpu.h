// CPU drivers of the linear recurrences. Included by `*_cpu.cpp` only.
#pragma once

#include "core/linear_recurrence.h"

namespace machin_fast::MF_ISA {
namespace {

// Columns walked together, row by row: their carries stay in L1.
constexpr int64_t kColumnBlock = 1024;

template <typename T, typename Op>
MF_HD void advance(const Op& op, int64_t i, bool last, Scalar<T>* carry) {
  const auto terms = op.template load<T>(i, splat_mask<T>(last));
  const T neighbour = load<T>(carry, 0);
  // As apply(), but of a single step it is known where it cuts.
  const T x = select<T>(terms.cut, terms.map.b, terms.map.b + terms.map.a * neighbour);
  op.store(i, terms, x, neighbour);
  store<T>(carry, 0, x);
}

// Lane l of the result is lane l + kShift (l - kShift if kForward), or `fill` past the end.
template <bool kForward, int kShift, typename T, int... kLane>
MF_HD T shift_lanes(T x, T fill, std::integer_sequence<int, kLane...>) {
  constexpr int n = kLanes<T>;
  if constexpr (kForward) {
    return __builtin_shufflevector(x, fill, (kLane >= kShift ? kLane - kShift : n + kLane)...);
  } else {
    return __builtin_shufflevector(x, fill, (kLane + kShift < n ? kLane + kShift : n + kLane)...);
  }
}

// Composes each lane's map with those of all lanes before it in the walk, in log2(lanes) steps.
template <bool kForward, int kShift, typename T>
MF_HD Affine<T> scan_lanes(Affine<T> f) {
  if constexpr (kShift == kLanes<T>) {
    return f;
  } else {
    constexpr auto lanes = std::make_integer_sequence<int, kLanes<T>>{};
    const T one = splat<T>(1);
    const Affine<T> g = {shift_lanes<kForward, kShift>(f.b, T{}, lanes),
                         shift_lanes<kForward, kShift>(f.a, one, lanes)};
    return scan_lanes<kForward, 2 * kShift, T>(compose(f, g));
  }
}

// The powers of a decay that an episode without a border inside a pack needs: there every step's
// coefficient is the decay, which leaves a scan of b alone.
template <typename T>
struct Powers {
  T of_shift[6];  // decay^1, decay^2, decay^4, ...
  T of_reach;     // decay^(steps from what precedes the pack in the walk)

  Powers(Scalar<T> decay, bool forward) : of_shift{}, of_reach{} {
    Scalar<T> power = decay;
    for (int shift = 1, k = 0; shift < kLanes<T>; shift *= 2, ++k, power *= power) {
      of_shift[k] = splat<T>(power);
    }
    power = decay;
    for (int l = 0; l < kLanes<T>; ++l, power *= decay) {
      of_reach[forward ? l : kLanes<T> - 1 - l] = power;
    }
  }
};

template <bool kForward, int kShift, int kStep, typename T>
MF_HD T scan_steps(T b, const Powers<T>& powers) {
  if constexpr (kShift == kLanes<T>) {
    return b;
  } else {
    constexpr auto lanes = std::make_integer_sequence<int, kLanes<T>>{};
    const T before = shift_lanes<kForward, kShift>(b, T{}, lanes);
    return scan_steps<kForward, 2 * kShift, kStep + 1>(b + powers.of_shift[kStep] * before, powers);
  }
}

template <typename T, typename Op>
MF_HD void advance_pack(const Op& op, int64_t i, Mask<T> last, const Powers<T>& powers, T* carry) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<T>>{};
  constexpr int kOut = Op::kForward ? kLanes<T> - 1 : 0;
  const auto terms = op.template load<T>(i, last);
  T x;
  if (Op::kConstantDecay && !any<T>(equal(terms.map.a, T{}))) {
    x = scan_steps<Op::kForward, 1, 0>(terms.map.b, powers) + powers.of_reach * *carry;
  } else {
    x = apply(scan_lanes<Op::kForward, 1, T>(terms.map), *carry);
  }
  op.store(i, terms, x, shift_lanes<Op::kForward, 1>(x, *carry, lanes));
  *carry = splat<T>(x[kOut]);
}

// Tells which of the next rows close a segment, in the direction of the walk.
template <bool kForward>
class Ends {
 public:
  Ends(const int64_t* bounds, int64_t begin, int64_t end)
      : bounds_(bounds), begin_(begin), end_(end) {
    // Forwards, an empty first segment would end at the row before the first.
    while (kForward && begin_ < end_ && bounds_[begin_ + 1] == bounds_[begin]) ++begin_;
  }

  // Rows [i, i + kLanes<T>). Rarely does one of them end a segment.
  template <typename T>
  MF_HD Mask<T> take(int64_t i) {
    Mask<T> mask = splat_mask<T>(false);
    while (inside(i, i + kLanes<T>)) {
      if constexpr (kLanes<T> == 1) {
        mask = true;
      } else {
        set_lane<T>(mask, int(row() - i));
      }
      kForward ? ++begin_ : --end_;
    }
    return mask;
  }

 private:
  MF_HD int64_t row() const { return bounds_[kForward ? begin_ + 1 : end_] - 1; }
  MF_HD bool inside(int64_t low, int64_t high) const {
    return begin_ < end_ && (kForward ? row() < high : row() >= low);
  }

  const int64_t* bounds_;
  int64_t begin_, end_;
};

}  // namespace

template <typename Op>
void recur_columns(const Op& shared_op, const RolloutLayout& layout, int64_t begin, int64_t end) {
  const Op op = shared_op;  // a local copy stays in registers whatever is written
  using N = typename Op::Number;
  using Pack = Vec<N>;
  alignas(64) N carry[kColumnBlock];
  for (int64_t block = begin; block < end; block += kColumnBlock) {
    const int64_t width = end - block < kColumnBlock ? end - block : kColumnBlock;
    for (int64_t j = 0; j < width; ++j) carry[j] = 0;
    for (int64_t k = 0; k < layout.steps; ++k) {
      const int64_t step = Op::kForward ? k : layout.steps - 1 - k;
      const bool last = step == layout.steps - 1;
      const int64_t row = step * layout.envs + block;
      int64_t j = 0;
      for (; j + kLanes<Pack> <= width; j += kLanes<Pack>) {
        advance<Pack>(op, row + j, last, carry + j);
      }
      for (; j < width; ++j) advance<N>(op, row + j, last, carry + j);
    }
  }
}

template <typename Op>
void recur_flat(const Op& shared_op, const RolloutLayout& layout, int64_t begin, int64_t end) {
  const Op op = shared_op;
  using N = typename Op::Number;
  using Pack = Vec<N>;
  constexpr bool kForward = Op::kForward;
  const int64_t low = layout.bounds[begin], high = layout.bounds[end];
  const int64_t packed = (high - low) / kLanes<Pack> * kLanes<Pack>;

  Ends<kForward> ends(layout.bounds, begin, end);
  Powers<Pack> powers(0, kForward);
  if constexpr (Op::kConstantDecay) powers = Powers<Pack>(op.decay(), kForward);
  Pack carry{};
  for (int64_t k = 0; k < packed; k += kLanes<Pack>) {
    const int64_t i = kForward ? low + k : high - k - kLanes<Pack>;
    advance_pack<Pack>(op, i, ends.template take<Pack>(i), powers, &carry);
  }
  N rest = carry[0];
  for (int64_t k = packed; k < high - low; ++k) {
    const int64_t i = kForward ? low + k : high - k - 1;
    advance<N>(op, i, ends.template take<N>(i), &rest);
  }
}

}  // namespace machin_fast::MF_ISA

// Makes the estimator Op callable on the CPU, at this file's instruction set.
#define MF_RECURRENCE_CPU(Op)                                                               \
  template void machin_fast::MF_ISA::recur_columns(                                         \
      const machin_fast::Op<float>&, const machin_fast::RolloutLayout&, int64_t, int64_t);  \
  template void machin_fast::MF_ISA::recur_columns(                                         \
      const machin_fast::Op<double>&, const machin_fast::RolloutLayout&, int64_t, int64_t); \
  template void machin_fast::MF_ISA::recur_flat(                                            \
      const machin_fast::Op<float>&, const machin_fast::RolloutLayout&, int64_t, int64_t);  \
  template void machin_fast::MF_ISA::recur_flat(                                            \
      const machin_fast::Op<double>&, const machin_fast::RolloutLayout&, int64_t, int64_t)

// The categorical projection of C51 (Bellemare et al. 2017, arXiv:1707.06887, algorithm 1).
#pragma once

#include "core/cuda_stream.h"
#include "core/host_device.h"
#include "core/isa.h"

namespace machin_fast {

// Atom j stands for the return v_min + j * spacing.
template <typename N>
struct CategoricalProjection {
  const N* next_probability;  // [batch, atoms]
  const N* reward;            // [batch]
  const N* discount;          // [batch]
  N* out;                     // [batch, atoms]
  int64_t batch, atoms;
  N v_min, spacing;
};

// Up to here whole numbers are exact in float.
inline constexpr int64_t kMaxAtoms = int64_t(1) << 24;

// Where one atom of the next state lands: between atoms `lower` and lower + 1. Every position has
// such a pair, so that one hit exactly, or clipped at an end, needs no case of its own.
template <typename N>
struct Landing {
  int32_t lower;
  N upper_share;  // in [0, 1]; the rest of the mass goes to `lower`
};

// The Bellman update of one row's atoms, in units of the atoms' spacing:
//   (reward + discount * z_j - v_min) / spacing = origin + discount * j
template <typename N>
struct ShiftedAtoms {
  N origin, discount;
  int32_t last;

  MF_HD ShiftedAtoms(const CategoricalProjection<N>& args, int64_t row)
      : discount(args.discount[row]), last(int32_t(args.atoms) - 1) {
    origin = (args.reward[row] + (discount - 1) * args.v_min) / args.spacing;
  }

  MF_HD N position(int32_t j) const { return origin + discount * N(j); }

  // What all of the row's result is added to: 0, or NaN if a position is not a finite number.
  MF_HD N blank() const {
    const N first = position(0), end = position(last);
    return (first - first) + (end - end);
  }

  MF_HD Landing<N> landing(int32_t j) const {
    N x = position(j);
    x = x > 0 ? (x < N(last) ? x : N(last)) : 0;  // NaN becomes 0, a valid index
    const int32_t floor = int32_t(x), lower = floor < last ? floor : last - 1;
    return {lower, x - N(lower)};
  }
};

// Rows [begin, end).
MF_PER_ISA(template <typename N>
           void project_rows(const CategoricalProjection<N>& args, int64_t begin, int64_t end))
template <typename N>
void launch_categorical_projection(const CategoricalProjection<N>& args, CudaStream stream);

}  // namespace machin_fast

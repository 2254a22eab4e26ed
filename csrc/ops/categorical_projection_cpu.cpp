#include "ops/categorical_projection.h"

namespace machin_fast::MF_ISA {
namespace {

// Adds to pairs of neighbouring numbers. The last pair is kept in registers: the next one is mostly
// the same or one further, and a sum in memory would keep it waiting.
template <typename N>
class PairSums {
 public:
  explicit PairSums(N* out) : out_(out) {}

  MF_HD void add(int32_t lower, N to_lower, N to_upper) {
    if (lower != lower_) {
      out_[lower_] += at_lower_;
      if (lower == lower_ + 1) {
        at_lower_ = at_upper_;
      } else {
        out_[lower_ + 1] += at_upper_;
        at_lower_ = 0;
      }
      at_upper_ = 0;
      lower_ = lower;
    }
    at_lower_ += to_lower;
    at_upper_ += to_upper;
  }

  MF_HD void finish() {
    out_[lower_] += at_lower_;
    out_[lower_ + 1] += at_upper_;
  }

 private:
  N* out_;
  int32_t lower_ = 0;
  N at_lower_ = 0, at_upper_ = 0;
};

}  // namespace

template <typename N>
void project_rows(const CategoricalProjection<N>& args, int64_t begin, int64_t end) {
  constexpr int32_t kBlock = 64;
  int32_t lower[kBlock];
  N to_lower[kBlock], to_upper[kBlock];
  const int32_t count = int32_t(args.atoms);
  for (int64_t row = begin; row < end; ++row) {
    const ShiftedAtoms<N> atoms(args, row);
    const N* mass = args.next_probability + row * args.atoms;
    N* out = args.out + row * args.atoms;
    const N blank = atoms.blank();
    for (int32_t i = 0; i < count; ++i) out[i] = blank;
    PairSums<N> sums(out);
    for (int32_t first = 0; first < count; first += kBlock) {
      const int32_t size = count - first < kBlock ? count - first : kBlock;
      for (int32_t k = 0; k < size; ++k) {  // apart from the sums, so that it vectorises
        const Landing<N> to = atoms.landing(first + k);
        lower[k] = to.lower;
        to_lower[k] = mass[first + k] * (1 - to.upper_share);
        to_upper[k] = mass[first + k] * to.upper_share;
      }
      for (int32_t k = 0; k < size; ++k) sums.add(lower[k], to_lower[k], to_upper[k]);
    }
    sums.finish();
  }
}

template void project_rows(const CategoricalProjection<float>&, int64_t, int64_t);
template void project_rows(const CategoricalProjection<double>&, int64_t, int64_t);

}  // namespace machin_fast::MF_ISA

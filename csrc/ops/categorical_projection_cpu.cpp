#include "ops/categorical_projection.h"

namespace machin_fast::MF_ISA {

template <typename N>
void project_rows(const CategoricalProjection<N>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const ShiftedAtoms<N> atoms(args, row);
    const N* mass = args.next_probability + row * args.atoms;
    N* out = args.out + row * args.atoms;
    const N blank = atoms.blank();
    for (int64_t i = 0; i < args.atoms; ++i) out[i] = blank;
    for (int64_t j = 0; j < args.atoms; ++j) {
      const Landing<N> to = atoms.landing(j);
      out[to.lower] += mass[j] * (1 - to.upper_share);
      out[to.lower + 1] += mass[j] * to.upper_share;
    }
  }
}

template void project_rows(const CategoricalProjection<float>&, int64_t, int64_t);
template void project_rows(const CategoricalProjection<double>&, int64_t, int64_t);

}  // namespace machin_fast::MF_ISA

#include "core/cuda_launch.h"
#include "ops/categorical_projection.h"

namespace machin_fast {
namespace {

constexpr int kThreads = 256;

// One thread per atom of the result, which gathers from the atoms that land next to it: no two
// threads add to the same number, so the result does not depend on their order. Positions rise (or
// fall) with the atom, so those atoms are neighbours and a binary search finds the first.
template <typename N>
__global__ void __launch_bounds__(kThreads) project(CategoricalProjection<N> args) {
  const int64_t place = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = place / args.atoms;
  if (row >= args.batch) return;
  const int32_t i = int32_t(place - row * args.atoms), count = int32_t(args.atoms);
  const ShiftedAtoms<N> atoms(args, row);
  const N* mass = args.next_probability + row * args.atoms;
  // The k-th atom in the order of positions.
  const auto ranked = [&](int32_t k) { return atoms.discount < 0 ? atoms.last - k : k; };

  int32_t first = 0;
  for (int32_t size = count; size > 0;) {
    const int32_t half = size / 2;
    if (atoms.landing(ranked(first + half)).lower < i - 1) {
      first += half + 1;
      size -= half + 1;
    } else {
      size = half;
    }
  }
  N sum = atoms.blank();
  for (int32_t k = first; k < count; ++k) {
    const int32_t j = ranked(k);
    const Landing<N> from = atoms.landing(j);
    if (from.lower > i) break;
    sum += mass[j] * (from.lower == i ? 1 - from.upper_share : from.upper_share);
  }
  args.out[place] = sum;
}

}  // namespace

template <typename N>
void launch_categorical_projection(const CategoricalProjection<N>& args, CudaStream stream) {
  const int64_t blocks = (args.batch * args.atoms + kThreads - 1) / kThreads;
  MF_LAUNCH(project<N>, unsigned(blocks), kThreads, stream, args);
}

template void launch_categorical_projection(const CategoricalProjection<float>&, CudaStream);
template void launch_categorical_projection(const CategoricalProjection<double>&, CudaStream);

}  // namespace machin_fast

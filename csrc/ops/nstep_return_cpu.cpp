#include "ops/nstep_return.h"

namespace machin_fast::MF_ISA {
namespace {

// Rows [begin, end) of the segment that ends before row `segment_end`.
template <typename N>
void nstep_rows(const NstepArgs<N>& args, int64_t begin, int64_t end, int64_t segment_end) {
  using Pack = Vec<N>;
  int64_t i = begin;
  for (; i + kLanes<Pack> <= end && i + kLanes<Pack> - 1 + args.n <= segment_end;
       i += kLanes<Pack>) {
    nstep_window<Pack>(args, i, 1, args.n);
  }
  for (; i < end; ++i) {
    const int64_t left = segment_end - i;
    nstep_window<N>(args, i, 1, left < args.n ? left : args.n);
  }
}

}  // namespace

template <typename N>
void nstep_steps(const NstepArgs<N>& args, const RolloutLayout& layout, int64_t begin,
                 int64_t end) {
  using Pack = Vec<N>;
  if (layout.bounds != nullptr) {
    int64_t segment = 0;
    for (int64_t i = begin; i < end;) {
      while (layout.bounds[segment + 1] <= i) ++segment;
      const int64_t segment_end = layout.bounds[segment + 1];
      const int64_t stop = segment_end < end ? segment_end : end;
      nstep_rows(args, i, stop, segment_end);
      i = stop;
    }
    return;
  }
  for (int64_t step = begin; step < end; ++step) {
    const int64_t left = layout.steps - step;
    const int64_t count = left < args.n ? left : args.n;
    const int64_t row = step * layout.envs;
    int64_t b = 0;
    for (; b + kLanes<Pack> <= layout.envs; b += kLanes<Pack>) {
      nstep_window<Pack>(args, row + b, layout.envs, count);
    }
    for (; b < layout.envs; ++b) nstep_window<N>(args, row + b, layout.envs, count);
  }
}

template void nstep_steps(const NstepArgs<float>&, const RolloutLayout&, int64_t, int64_t);
template void nstep_steps(const NstepArgs<double>&, const RolloutLayout&, int64_t, int64_t);

}  // namespace machin_fast::MF_ISA

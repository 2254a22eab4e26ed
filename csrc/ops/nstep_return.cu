#include "core/cuda_launch.h"
#include "ops/nstep_return.h"

namespace machin_fast {
namespace {

constexpr int kThreads = 256;

// One thread per row; neighbouring threads read neighbouring envs.
template <typename N>
__global__ void nstep_kernel(NstepArgs<N> args, RolloutLayout layout) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= layout.steps * layout.envs) return;
  int64_t end = layout.steps;
  if (layout.segments > 1) {
    int64_t low = 0, high = layout.segments - 1;  // the segment whose end is the first after row i
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (layout.bounds[middle + 1] > i) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    end = layout.bounds[low + 1];
  }
  const int64_t left = end - i / layout.envs;
  nstep_window<N>(args, i, layout.envs, left < args.n ? left : args.n);
}

}  // namespace

template <typename N>
void launch_nstep(const NstepArgs<N>& args, const RolloutLayout& layout, int64_t* scratch,
                  CudaStream stream) {
  RolloutLayout on_device = layout;
  if (layout.segments > 1) {
    copy_to_device(scratch, layout.bounds, (layout.segments + 1) * int64_t(sizeof(int64_t)),
                   stream);
    on_device.bounds = scratch;
  }
  const int64_t blocks = (layout.steps * layout.envs + kThreads - 1) / kThreads;
  MF_LAUNCH(nstep_kernel<N>, unsigned(blocks), kThreads, stream, args, on_device);
}

template void launch_nstep(const NstepArgs<float>&, const RolloutLayout&, int64_t*, CudaStream);
template void launch_nstep(const NstepArgs<double>&, const RolloutLayout&, int64_t*, CudaStream);

}  // namespace machin_fast

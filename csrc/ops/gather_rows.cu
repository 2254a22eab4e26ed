#include "core/rows_cuda.h"
#include "ops/gather_rows.h"

namespace machin_fast {
namespace {

constexpr int kThreads = 256;

struct GatherOp {
  const int64_t* index;
  int64_t rows;

  __device__ const char* from(const RowColumn& column, int64_t i) const {
    const int64_t row = index[i];
    return has_row(row, rows) ? column.rows + row * column.stride : nullptr;
  }
  __device__ char* to(const RowColumn& column, int64_t i) const {
    return column.batch + i * column.batch_stride;
  }
};

// `first_bad` holds n at first.
__global__ void __launch_bounds__(kThreads)
    find_bad(const int64_t* index, int64_t n, int64_t rows, unsigned long long* first_bad) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n && !has_row(index[i], rows)) atomicMin(first_bad, (unsigned long long)(i));
}

}  // namespace

void launch_find_bad_index(const GatherRows& args, int64_t* first_bad, CudaStream stream) {
  copy_to_device(first_bad, &args.n, sizeof args.n, stream);
  MF_LAUNCH(find_bad, unsigned((args.n + kThreads - 1) / kThreads), kThreads, stream, args.index,
            args.n, args.rows, reinterpret_cast<unsigned long long*>(first_bad));
}

void launch_gather_rows(const GatherRows& args, CudaStream stream) {
  launch_copy_rows(GatherOp{args.index, args.rows}, args.columns, args.count, args.n, stream);
}

}  // namespace machin_fast

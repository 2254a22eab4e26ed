#include "core/rows_cuda.h"
#include "ops/write_rows.h"

namespace machin_fast {
namespace {

struct WriteOp {
  WriteRows args;

  __device__ const char* from(const RowColumn& column, int64_t i) const {
    return column.batch + i * column.batch_stride;
  }
  __device__ char* to(const RowColumn& column, int64_t i) const {
    return column.rows + ring_row(args, i) * column.stride;
  }
};

}  // namespace

void launch_write_rows(const WriteRows& args, CudaStream stream) {
  launch_copy_rows(WriteOp{args}, args.columns, args.count, args.n, stream);
}

}  // namespace machin_fast

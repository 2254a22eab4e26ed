// Writes rows into the columns of a ring.
#pragma once

#include <span>

#include "core/array.h"
#include "core/cuda_stream.h"
#include "core/host_device.h"
#include "core/isa.h"
#include "core/rows.h"

namespace machin_fast {

struct WriteRows {
  const RowColumn* columns;
  int64_t count;  // of columns
  int64_t rows;   // of each column
  int64_t start;  // row of the column that row 0 of the batch goes to
  int64_t n;      // rows of the batch, at most `rows`
};

// Where row i of the batch goes.
MF_HD int64_t ring_row(const WriteRows& args, int64_t i) {
  const int64_t row = args.start + i;
  return row < args.rows ? row : row - args.rows;
}

// Rows [begin, end) of the batch.
MF_PER_ISA(void write_rows(const WriteRows& args, int64_t begin, int64_t end))

// Checks all, then writes on the CPU. Takes Arrays, so that calls may go past torch.
void write_rows_cpu(std::span<const Array> columns, std::span<const Array> rows, int64_t start);
// All was checked.
void write_rows_cpu(const WriteRows& args);

void launch_write_rows(const WriteRows& args, CudaStream stream);

}  // namespace machin_fast

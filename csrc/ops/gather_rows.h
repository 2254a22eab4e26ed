// Rows of several columns at given indices, all columns at once.
#pragma once

#include <span>

#include "core/array.h"
#include "core/cuda_stream.h"
#include "core/host_device.h"
#include "core/isa.h"
#include "core/rows.h"

namespace machin_fast {

struct GatherRows {
  const RowColumn* columns;
  int64_t count;         // of columns
  int64_t rows;          // of each column
  const int64_t* index;  // [n], the row of the column that goes to each row of the batch
  int64_t n;
};

MF_HD bool has_row(int64_t row, int64_t rows) {
  return uint64_t(row) < uint64_t(rows);  // a negative one becomes huge
}

// The first position in `index` of a row that does not exist; n if there is none.
MF_PER_ISA(int64_t find_bad_index(const GatherRows& args))

// Rows [begin, end) of the batch. The indices were checked. Columns in the order of their
// addresses are faster, as fields of a record are then recognised.
MF_PER_ISA(void gather_rows(const GatherRows& args, int64_t begin, int64_t end))
// The indices need no check: a row that does not exist is all zero bytes. Slower.
MF_PER_ISA(void gather_rows_or_zeros(const GatherRows& args))

// Checks all, then gathers on the CPU. Takes Arrays, so that calls may go past torch.
void gather_rows_cpu(std::span<const Array> columns, const Array& index, bool check,
                     std::span<const Array> out);

// `first_bad`, one number on the device, becomes what find_bad_index returns.
void launch_find_bad_index(const GatherRows& args, int64_t* first_bad, CudaStream stream);
// As gather_rows_or_zeros.
void launch_gather_rows(const GatherRows& args, CudaStream stream);

}  // namespace machin_fast

#include "core/rows_cpu.h"
#include "ops/write_rows.h"

namespace machin_fast::MF_ISA {
namespace {

// Rows whose fields are written column by column: few enough for their records to stay in L1.
constexpr int64_t kBlock = 256;

// Rows [begin, end) of the batch, which go to successive rows of the column.
MF_HD void write_column(const WriteRows& args, const RowColumn& column, int64_t begin,
                        int64_t end) {
  const RowColumn c = column;  // a copy stays in registers whatever is written
  char* to = c.rows + ring_row(args, begin) * c.stride;
  const char* from = c.batch + begin * c.batch_stride;
  if (c.stride == c.bytes && c.batch_stride == c.bytes) {
    std::memcpy(to, from, size_t((end - begin) * c.bytes));
    return;
  }
  with_row_copy(c.bytes, [&](const auto& copy) {
    for (int64_t i = 0; i < end - begin; ++i) copy(to + i * c.stride, from + i * c.batch_stride);
  });
}

}  // namespace

void write_rows(const WriteRows& args, int64_t begin, int64_t end) {
  const int64_t wrap = args.rows - args.start;  // the row of the batch that goes to row 0
  for (int64_t b = begin, block_end; b < end; b = block_end) {
    block_end = b + kBlock < end ? b + kBlock : end;
    if (b < wrap && wrap < block_end) block_end = wrap;
    for (int64_t c = 0; c < args.count; ++c) write_column(args, args.columns[c], b, block_end);
  }
}

}  // namespace machin_fast::MF_ISA

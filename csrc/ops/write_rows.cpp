#include "ops/write_rows.h"

#include "ops/columns.h"

namespace machin_fast {
namespace {

constexpr const char* kOp = "write_rows_";

void check_memory(Arrays columns, Arrays rows) {
  const std::vector<Span> written = spans(columns), read = spans(rows);
  for (size_t j = 0; j < columns.size(); ++j) {
    const Array& column = columns[j];
    MF_CHECK(column.shape[0] <= 1 || column.stride[0] * column.itemsize >= row_bytes(column), kOp,
             ": columns[", j, "] must have rows that share no memory, got strides ",
             to_text(column.stride, column.dim));
    for (size_t k = 0; k < rows.size(); ++k) {
      MF_CHECK(!overlap(read[k], written[j]), kOp, ": rows[", k,
               "] must not share memory with columns[", j, "]");
    }
  }
}

struct WriteRequest {
  std::vector<RowColumn> copies;
  WriteRows args;

  WriteRequest(Arrays columns, Arrays rows, int64_t start) {
    check_columns(kOp, columns);
    const int64_t capacity = columns[0].shape[0];
    const int64_t n = rows.empty() || rows[0].dim == 0 ? 0 : rows[0].shape[0];
    check_batch(kOp, "rows", rows, columns, n);
    MF_CHECK(n <= capacity, kOp, ": rows[0] must have at most ", capacity, " rows, got ", n);
    MF_CHECK(start >= 0 && (start < capacity || start == 0), kOp, ": start must be in [0, ",
             capacity, "), got ", start);
    for (size_t j = 0; j < rows.size(); ++j) {
      MF_CHECK(is_contiguous(rows[j], 1), kOp, ": rows[", j,
               "] must have no gaps inside a row, got strides ",
               to_text(rows[j].stride, rows[j].dim));
    }
    check_memory(columns, rows);

    copies = row_columns(columns, rows);
    args = {.columns = copies.data(),
            .count = int64_t(copies.size()),
            .rows = capacity,
            .start = start,
            .n = n};
  }
  WriteRequest(const WriteRequest&) = delete;  // `args` points into `copies`
};

}  // namespace

void write_rows_cpu(Arrays columns, Arrays rows, int64_t start) {
  write_rows_cpu(WriteRequest(columns, rows, start).args);
}

void write_rows_cpu(const WriteRows& args) {
  const int64_t grain = rows_per_thread({args.columns, size_t(args.count)});
  parallel_for(args.n, grain,
               [&](int64_t begin, int64_t end) { MF_CALL_ISA(write_rows(args, begin, end)); });
}

namespace {

void write_rows_(const std::vector<Tensor>& columns, const std::vector<Tensor>& rows,
                 int64_t start) {
  check_batch_dtypes(kOp, "rows", rows, columns);
  const std::vector<Array> to = views(columns);
  std::vector<Array> from = views(rows);
  std::vector<Tensor> copies;  // of rows with gaps inside
  for (size_t j = 0; j < rows.size(); ++j) {
    if (is_contiguous(from[j], 1)) continue;
    copies.push_back(dense(rows[j]));
    from[j] = view(copies.back());
  }
  if (to.empty() || !to[0].is_cuda()) return write_rows_cpu(to, from, start);
  const WriteRequest request(to, from, start);
  on_cuda(kOp, to[0], [&](CudaStream stream) { launch_write_rows(request.args, stream); });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def("write_rows_(Tensor(a!)[] columns, Tensor[] rows, int start) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("write_rows_", TORCH_BOX(&write_rows_));
}

}  // namespace machin_fast

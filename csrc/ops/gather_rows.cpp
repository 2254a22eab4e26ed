#include "ops/gather_rows.h"

#include <algorithm>

#include "ops/columns.h"

namespace machin_fast {
namespace {

constexpr const char* kOp = "gather_rows";

// What does not depend on the outputs, nor on the values of the indices.
void check_request(const std::vector<Array>& columns, const Array& index) {
  check_columns(kOp, columns);
  check_dtype(kOp, "index", index, DType::kInt64);
  check_dim(kOp, "index", index, 1, "[n]");
  check_device(kOp, "index", index, columns[0]);
}

void check_out(const std::vector<Array>& out, const std::vector<Array>& columns,
               const Array& index) {
  check_batch(kOp, "out", out, columns, index.numel);
  for (size_t j = 0; j < out.size(); ++j) {
    MF_CHECK(out[j].numel == 0 || is_contiguous(out[j]), kOp, ": out[", j,
             "] must be contiguous, got strides ", to_text(out[j].stride, out[j].dim));
    MF_CHECK(!overlap(out[j], index), kOp, ": out[", j, "] must not share memory with index");
    for (size_t k = 0; k < columns.size(); ++k) {
      MF_CHECK(!overlap(out[j], columns[k]), kOp, ": out[", j,
               "] must not share memory with columns[", k, "]");
      MF_CHECK(j == k || !overlap(out[j], out[k]), kOp, ": out[", j,
               "] must not share memory with out[", k, "]");
    }
  }
}

int64_t item(const Tensor& x) {
  int64_t value = 0;
  MF_CHECK(aoti_torch_item_int64(x.get(), &value) == 0, kOp,
           ": CUDA's memory must be readable, got an error from torch");
  return value;
}

int64_t find_bad_index(const GatherRows& args, const Array& like) {
  if (!like.is_cuda()) return MF_CALL_ISA(find_bad_index(args));
  const int64_t one = 1;
  const Tensor first_bad = empty(&one, 1, DType::kInt64, like);
  on_cuda(kOp, like, [&](CudaStream stream) {
    launch_find_bad_index(args, static_cast<int64_t*>(first_bad.data_ptr()), stream);
  });
  return item(first_bad);  // waits for the kernel
}

// All is checked but the indices.
void gather(const std::vector<Array>& columns, const Tensor& index, bool check,
            const std::vector<Array>& out) {
  Tensor dense_index = dense(index);
  std::vector<RowColumn> copies = row_columns(columns, out);
  std::sort(copies.begin(), copies.end(),
            [](const RowColumn& x, const RowColumn& y) { return x.rows < y.rows; });
  const GatherRows args = {.columns = copies.data(),
                           .count = int64_t(copies.size()),
                           .rows = columns[0].shape[0],
                           .index = view(dense_index).as<const int64_t>(),
                           .n = dense_index.numel()};
  if (args.n == 0) return;

  const bool on_device = columns[0].is_cuda();
  // The CPU checks in any case, as that costs it next to nothing.
  const int64_t bad = check || !on_device ? find_bad_index(args, columns[0]) : args.n;
  MF_CHECK(bad == args.n || !check, kOp, ": index must be in [0, ", args.rows, "), got ",
           item(torch::stable::narrow(dense_index, 0, bad, 1)), " at position ", bad);
  if (args.count == 0) return;
  if (on_device) {
    on_cuda(kOp, columns[0], [&](CudaStream stream) { launch_gather_rows(args, stream); });
  } else if (bad < args.n) {
    MF_CALL_ISA(gather_rows_or_zeros(args));
  } else {
    parallel_for(args.n, rows_per_thread(copies), [&](int64_t begin, int64_t end) {
      MF_CALL_ISA(gather_rows(args, begin, end));
    });
  }
}

void gather_rows_out(const std::vector<Tensor>& columns, const Tensor& index, bool check,
                     const std::vector<Tensor>& out) {
  const std::vector<Array> from = views(columns), to = views(out);
  const Array at = view(index);
  check_request(from, at);
  check_out(to, from, at);
  check_batch_dtypes(kOp, "out", out, columns);
  gather(from, index, check, to);
}

std::vector<Tensor> gather_rows(const std::vector<Tensor>& columns, const Tensor& index,
                                bool check) {
  const std::vector<Array> from = views(columns);
  const Array at = view(index);
  check_request(from, at);
  std::vector<Tensor> out;
  out.reserve(columns.size());
  for (const Tensor& column : columns) out.push_back(empty_rows(column, at.numel));
  gather(from, index, check, views(out));
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def("gather_rows(Tensor[] columns, Tensor index, bool check) -> Tensor[]");
  m.def("gather_rows.out(Tensor[] columns, Tensor index, bool check, Tensor(a!)[] out) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("gather_rows", TORCH_BOX(&gather_rows));
  m.impl("gather_rows.out", TORCH_BOX(&gather_rows_out));
}

}  // namespace machin_fast

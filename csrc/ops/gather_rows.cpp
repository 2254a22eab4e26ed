#include "ops/gather_rows.h"

#include <algorithm>

#include "ops/columns.h"

namespace machin_fast {
namespace {

constexpr const char* kOp = "gather_rows";

void check_request(Arrays columns, const Array& index) {
  check_columns(kOp, columns);
  check_dtype(kOp, "index", index, DType::kInt64);
  check_dim(kOp, "index", index, 1, "[n]");
  check_device(kOp, "index", index, columns[0]);
}

void check_memory(Arrays columns, const Array& index, Arrays out) {
  const Span index_span = span_of(index);
  const std::vector<Span> read = spans(columns), written = spans(out);
  for (size_t j = 0; j < out.size(); ++j) {
    MF_CHECK(!overlap(written[j], index_span), kOp, ": out[", j,
             "] must not share memory with index");
    for (size_t k = 0; k < columns.size(); ++k) {
      MF_CHECK(!overlap(written[j], read[k]), kOp, ": out[", j,
               "] must not share memory with columns[", k, "]");
      MF_CHECK(j == k || !overlap(written[j], written[k]), kOp, ": out[", j,
               "] must not share memory with out[", k, "]");
    }
  }
}

// Checks all but the values of the indices.
struct GatherRequest {
  std::vector<RowColumn> copies;
  GatherRows args;

  GatherRequest(Arrays columns, const Array& index, Arrays out) {
    check_request(columns, index);
    check_contiguous(kOp, "index", index);
    check_batch(kOp, "out", out, columns, index.numel);
    for (size_t j = 0; j < out.size(); ++j) {
      MF_CHECK(is_contiguous(out[j]), kOp, ": out[", j, "] must be contiguous, got strides ",
               to_text(out[j].stride, out[j].dim));
    }
    check_memory(columns, index, out);

    copies = row_columns(columns, out);
    std::sort(copies.begin(), copies.end(),
              [](const RowColumn& x, const RowColumn& y) { return x.rows < y.rows; });
    args = {.columns = copies.data(),
            .count = int64_t(copies.size()),
            .rows = columns[0].shape[0],
            .index = index.as<const int64_t>(),
            .n = index.numel};
  }
  GatherRequest(const GatherRequest&) = delete;  // `args` points into `copies`
};

[[noreturn]] void refuse_index(const GatherRows& args, int64_t value, int64_t position) {
  fail(kOp, ": index must be in [0, ", args.rows, "), got ", value, " at position ", position);
}

}  // namespace

void gather_rows_cpu(Arrays columns, const Array& index, bool check, Arrays out) {
  const GatherRequest request(columns, index, out);
  const GatherRows& args = request.args;
  const int64_t bad = MF_CALL_ISA(find_bad_index(args));
  if (bad == args.n) {
    parallel_for(args.n, rows_per_thread(request.copies),
                 [&](int64_t begin, int64_t end) { MF_CALL_ISA(gather_rows(args, begin, end)); });
  } else {
    if (check) refuse_index(args, args.index[bad], bad);
    MF_CALL_ISA(gather_rows_or_zeros(args));
  }
}

namespace {

void gather_rows_cuda(Arrays columns, const Tensor& index, bool check, Arrays out) {
  const Array at = view(index);
  const GatherRequest request(columns, at, out);
  const GatherRows& args = request.args;
  if (args.n == 0) return;
  if (check) {
    const int64_t one = 1;
    const Tensor first_bad = empty(&one, 1, DType::kInt64, at);
    on_cuda(kOp, at, [&](CudaStream stream) {
      launch_find_bad_index(args, view(first_bad).as<int64_t>(), stream);
    });
    const int64_t bad = read_one<int64_t>(first_bad, 0);
    if (bad < args.n) refuse_index(args, read_one<int64_t>(index, bad), bad);
  }
  on_cuda(kOp, at, [&](CudaStream stream) { launch_gather_rows(args, stream); });
}

void run(Arrays columns, const Tensor& index, bool check, Arrays out) {
  const Tensor kept = dense(index);
  const Array at = view(kept);
  if (at.is_cuda()) {
    gather_rows_cuda(columns, kept, check, out);
  } else {
    gather_rows_cpu(columns, at, check, out);
  }
}

void gather_rows_out(const std::vector<Tensor>& columns, const Tensor& index, bool check,
                     const std::vector<Tensor>& out) {
  check_batch_dtypes(kOp, "out", out, columns);
  run(views(columns), index, check, views(out));
}

std::vector<Tensor> gather_rows(const std::vector<Tensor>& columns, const Tensor& index,
                                bool check) {
  const std::vector<Array> from = views(columns);
  const Array at = view(index);
  check_request(from, at);
  std::vector<Tensor> out;
  out.reserve(columns.size());
  for (const Tensor& column : columns) out.push_back(empty_rows(column, at.numel));
  run(from, index, check, views(out));
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

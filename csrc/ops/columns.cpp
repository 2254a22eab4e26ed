#include "ops/columns.h"

#include <algorithm>

namespace machin_fast {
namespace {

constexpr int64_t kMaxRowBytes = int64_t(1) << 31;  // the CUDA kernels count them in 32 bits

bool same_device(const Array& x, const Array& y) {
  return x.device == y.device && x.device_index == y.device_index;
}

// torch's own number of a dtype, of which there are more than DType has.
int32_t dtype_code(const Tensor& x) {
  int32_t code = 0;
  MF_CHECK(aoti_torch_get_dtype(x.get(), &code) == 0,
           "machin_fast: a tensor must have a dtype, got an error from torch");
  return code;
}

std::string dtype_name(const Tensor& x) {
  const DType dtype = view(x).dtype;
  return dtype != DType::kOther ? dtype_text(dtype) : torch::headeronly::toString(x.scalar_type());
}

std::string batch_shape_text(const Array& column, int64_t n) {
  std::vector<int64_t> shape(column.shape, column.shape + column.dim);
  shape[0] = n;
  return to_text(shape.data(), column.dim);
}

}  // namespace

std::vector<Array> views(const std::vector<Tensor>& tensors) {
  std::vector<Array> all;
  all.reserve(tensors.size());
  for (const Tensor& tensor : tensors) all.push_back(view(tensor));
  return all;
}

std::vector<Span> spans(Arrays arrays) {
  std::vector<Span> all;
  all.reserve(arrays.size());
  for (const Array& array : arrays) all.push_back(span_of(array));
  return all;
}

int64_t row_bytes(const Array& column) {
  int64_t bytes = column.itemsize;
  for (int64_t d = 1; d < column.dim; ++d) bytes *= column.shape[d];
  return bytes;
}

bool same_row_shape(const Array& x, const Array& y) {
  if (x.dim != y.dim) return false;
  for (int64_t d = 1; d < x.dim; ++d) {
    if (x.shape[d] != y.shape[d]) return false;
  }
  return true;
}

void check_columns(const char* op, Arrays columns) {
  MF_CHECK(!columns.empty(), op, ": columns must have at least 1 tensor, got 0");
  const Array& first = columns[0];
  for (size_t j = 0; j < columns.size(); ++j) {
    const Array& column = columns[j];
    MF_CHECK(column.dim >= 1, op, ": columns[", j, "] must have rows, got shape []");
    MF_CHECK(column.shape[0] == first.shape[0], op, ": columns[", j, "] must have ", first.shape[0],
             " rows, got ", column.shape[0]);
    MF_CHECK(row_bytes(column) < kMaxRowBytes, op, ": columns[", j,
             "] must have rows of less than 2 GiB, got ", row_bytes(column), " bytes");
    MF_CHECK(same_device(column, first), op, ": columns[", j, "] must be on ", device_text(first),
             ", got ", device_text(column));
    MF_CHECK(is_contiguous(column, 1), op, ": columns[", j,
             "] must have no gaps inside a row, got strides ", to_text(column.stride, column.dim));
  }
}

void check_batch(const char* op, const char* name, Arrays batch, Arrays columns, int64_t n) {
  MF_CHECK(batch.size() == columns.size(), op, ": ", name, " must have ", columns.size(),
           " tensors, one per column, got ", batch.size());
  for (size_t j = 0; j < columns.size(); ++j) {
    const Array &rows = batch[j], &column = columns[j];
    MF_CHECK(same_row_shape(rows, column) && rows.shape[0] == n, op, ": ", name, "[", j,
             "] must have shape ", batch_shape_text(column, n), ", got ", shape_text(rows));
    MF_CHECK(rows.dtype == column.dtype && rows.itemsize == column.itemsize, op, ": ", name, "[", j,
             "] must be ", dtype_text(column.dtype), ", got ", dtype_text(rows.dtype));
    MF_CHECK(same_device(rows, column), op, ": ", name, "[", j, "] must be on ",
             device_text(column), ", got ", device_text(rows));
  }
}

void check_batch_dtypes(const char* op, const char* name, const std::vector<Tensor>& batch,
                        const std::vector<Tensor>& columns) {
  const size_t count = std::min(batch.size(), columns.size());
  for (size_t j = 0; j < count; ++j) {
    MF_CHECK(dtype_code(batch[j]) == dtype_code(columns[j]), op, ": ", name, "[", j, "] must be ",
             dtype_name(columns[j]), ", got ", dtype_name(batch[j]));
  }
}

Tensor empty_rows(const Tensor& column, int64_t n) {
  const Array x = view(column);
  std::vector<int64_t> shape(x.shape, x.shape + x.dim), stride(x.stride, x.stride + x.dim);
  shape[0] = n;
  stride[0] = row_bytes(x) / x.itemsize;
  const int32_t device = x.is_cuda() ? aoti_torch_device_type_cuda() : aoti_torch_device_type_cpu();
  AtenTensorHandle handle = nullptr;
  MF_CHECK(aoti_torch_empty_strided(x.dim, shape.data(), stride.data(), dtype_code(column), device,
                                    x.is_cuda() ? x.device_index : 0, &handle) == 0,
           "machin_fast: out of memory for a tensor of shape ", batch_shape_text(x, n));
  return Tensor(handle);
}

std::vector<RowColumn> row_columns(Arrays columns, Arrays batch) {
  std::vector<RowColumn> all;
  all.reserve(columns.size());
  for (size_t j = 0; j < columns.size(); ++j) {
    const Array &column = columns[j], &part = batch[j];
    if (part.numel == 0) continue;
    all.push_back({.rows = column.as<char>(),
                   .stride = column.stride[0] * column.itemsize,
                   .batch = part.as<char>(),
                   .batch_stride = part.stride[0] * part.itemsize,
                   .bytes = row_bytes(column)});
  }
  return all;
}

int64_t rows_per_thread(std::span<const RowColumn> columns) {
  // A row costs its bytes, and a cache line a column.
  constexpr int64_t kBytesPerThread = int64_t(1) << 20, kLine = 64;
  int64_t cost = 1;
  for (const RowColumn& column : columns) cost += column.bytes + kLine;
  return kBytesPerThread / cost + 1;
}

}  // namespace machin_fast

#include "ops/columns.h"

namespace machin_fast {
namespace {

int64_t row_bytes(const Array& x) {
  int64_t bytes = x.itemsize;
  for (int64_t d = 1; d < x.dim; ++d) bytes *= x.shape[d];
  return bytes;
}

// From the first byte to behind the last.
int64_t extent(const Array& x) {
  if (x.numel == 0) return 0;
  int64_t last = 0;
  for (int64_t d = 0; d < x.dim; ++d) last += (x.shape[d] - 1) * x.stride[d];
  return (last + 1) * x.itemsize;
}

bool same_row_shape(const Array& x, const Array& y) {
  if (x.dim != y.dim) return false;
  for (int64_t d = 1; d < x.dim; ++d) {
    if (x.shape[d] != y.shape[d]) return false;
  }
  return true;
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
  std::vector<Array> arrays;
  arrays.reserve(tensors.size());
  for (const Tensor& tensor : tensors) arrays.push_back(view(tensor));
  return arrays;
}

void check_columns(const char* op, const std::vector<Array>& columns) {
  MF_CHECK(!columns.empty(), op, ": columns must have at least 1 tensor, got 0");
  const Array& first = columns[0];
  for (size_t j = 0; j < columns.size(); ++j) {
    const Array& column = columns[j];
    MF_CHECK(column.dim >= 1, op, ": columns[", j, "] must have rows, got shape []");
    MF_CHECK(column.shape[0] == first.shape[0], op, ": columns[", j, "] must have ",
             first.shape[0], " rows, got ", column.shape[0]);
    MF_CHECK(column.device == first.device && column.device_index == first.device_index, op,
             ": columns[", j, "] must be on ", device_text(first), ", got ", device_text(column));
    MF_CHECK(column.numel == 0 || is_contiguous(column, 1), op, ": columns[", j,
             "] must have no gaps inside a row, got strides ",
             to_text(column.stride, column.dim));
  }
}

void check_batch(const char* op, const char* name, const std::vector<Array>& batch,
                 const std::vector<Array>& columns, int64_t n) {
  MF_CHECK(batch.size() == columns.size(), op, ": ", name, " must have ", columns.size(),
           " tensors, one per column, got ", batch.size());
  for (size_t j = 0; j < columns.size(); ++j) {
    const Array &rows = batch[j], &column = columns[j];
    MF_CHECK(same_row_shape(rows, column) && rows.shape[0] == n, op, ": ", name, "[", j,
             "] must have shape ", batch_shape_text(column, n), ", got ", shape_text(rows));
    MF_CHECK(rows.device == column.device && rows.device_index == column.device_index, op, ": ",
             name, "[", j, "] must be on ", device_text(column), ", got ", device_text(rows));
  }
}

void check_batch_dtypes(const char* op, const char* name, const std::vector<Tensor>& batch,
                        const std::vector<Tensor>& columns) {
  for (size_t j = 0; j < columns.size(); ++j) {
    MF_CHECK(dtype_code(batch[j]) == dtype_code(columns[j]), op, ": ", name, "[", j, "] must be ",
             dtype_name(columns[j]), ", got ", dtype_name(batch[j]));
  }
}

bool overlap(const Array& x, const Array& y) {
  return x.as<char>() < y.as<char>() + extent(y) && y.as<char>() < x.as<char>() + extent(x);
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

std::vector<RowColumn> row_columns(const std::vector<Array>& columns,
                                   const std::vector<Array>& batch) {
  std::vector<RowColumn> rows;
  rows.reserve(columns.size());
  for (size_t j = 0; j < columns.size(); ++j) {
    const Array &column = columns[j], &part = batch[j];
    if (part.numel == 0) continue;
    rows.push_back({.rows = column.as<char>(),
                    .stride = column.stride[0] * column.itemsize,
                    .batch = part.as<char>(),
                    .batch_stride = part.stride[0] * part.itemsize,
                    .bytes = row_bytes(column)});
  }
  return rows;
}

int64_t rows_per_thread(const std::vector<RowColumn>& columns) {
  constexpr int64_t kBytesPerThread = int64_t(1) << 20, kLine = 64;
  int64_t cost = 0;
  for (const RowColumn& column : columns) cost += column.bytes + kLine;
  return kBytesPerThread / cost + 1;
}

}  // namespace machin_fast

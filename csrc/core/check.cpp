#include "core/check.h"

namespace machin_fast {

std::string to_text(const int64_t* shape, int64_t dim) {
  std::ostringstream text;
  text << "[";
  for (int64_t d = 0; d < dim; ++d) text << (d == 0 ? "" : ", ") << shape[d];
  text << "]";
  return text.str();
}

std::string shape_text(const Array& x) {
  return to_text(x.shape, x.dim);
}

std::string device_text(const Array& x) {
  switch (x.device) {
    case DeviceType::kCpu:
      return "cpu";
    case DeviceType::kCuda:
      return "cuda:" + std::to_string(x.device_index);
    default:
      return "another device";
  }
}

const char* dtype_text(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return "bool";
    case DType::kUInt8:
      return "uint8";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    default:
      return "another dtype";
  }
}

void check_dtype(const char* op, const char* argument, const Array& x, DType dtype) {
  MF_CHECK(x.dtype == dtype, op, ": ", argument, " must be ", dtype_text(dtype), ", got ",
           dtype_text(x.dtype));
}

void check_shape(const char* op, const char* argument, const Array& x, const Array& like) {
  MF_CHECK(same_shape(x, like), op, ": ", argument, " must have shape ", shape_text(like), ", got ",
           shape_text(x));
}

void check_device(const char* op, const char* argument, const Array& x, const Array& like) {
  MF_CHECK(x.device == like.device && x.device_index == like.device_index, op, ": ", argument,
           " must be on ", device_text(like), ", got ", device_text(x));
}

void check_floating(const char* op, const char* argument, const Array& x) {
  MF_CHECK(x.dtype == DType::kFloat32 || x.dtype == DType::kFloat64, op, ": ", argument,
           " must be float32 or float64, got ", dtype_text(x.dtype));
}

void check_dim(const char* op, const char* argument, const Array& x, int64_t dim,
               const char* shape) {
  MF_CHECK(x.dim == dim, op, ": ", argument, " must be ", shape, ", got shape ", shape_text(x));
}

void check_contiguous(const char* op, const char* argument, const Array& x) {
  MF_CHECK(is_contiguous(x), op, ": ", argument, " must be contiguous, got strides ",
           to_text(x.stride, x.dim));
}

void check_like(const char* op, const char* argument, const Array& x, const Array& like,
                DType dtype) {
  check_shape(op, argument, x, like);
  check_dtype(op, argument, x, dtype);
  check_device(op, argument, x, like);
}

void check_out(const char* op, const char* argument, const Array& x, const Array& like,
               DType dtype) {
  check_like(op, argument, x, like, dtype);
  check_contiguous(op, argument, x);
}

void check_between(const char* op, const char* argument, double x, double low, double high) {
  MF_CHECK(x >= low && x <= high, op, ": ", argument, " must be in [", low, ", ", high, "], got ",
           x);
}

void check_not_negative(const char* op, const char* argument, double x) {
  MF_CHECK(x >= 0, op, ": ", argument, " must not be negative, got ", x);
}

}  // namespace machin_fast

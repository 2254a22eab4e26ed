// What an op knows of a tensor: where it lies, its shape and its type. Checks are written on this
// view, so that they need no torch, and both ways in (the dispatcher's tensors and the direct
// calls' DLPack) share them.
#pragma once

#include <cstdint>

namespace machin_fast {

enum class DType : uint8_t { kBool, kUInt8, kInt32, kInt64, kFloat32, kFloat64, kOther };

enum class DeviceType : uint8_t { kCpu, kCuda, kOther };

struct Array {
  void* data;
  const int64_t* shape;
  const int64_t* stride;  // in elements
  int64_t dim;
  int64_t numel;
  DType dtype;
  int32_t itemsize;  // bytes
  DeviceType device;
  int32_t device_index;

  bool is_cuda() const { return device == DeviceType::kCuda; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

inline bool same_shape(const Array& x, const Array& y) {
  if (x.dim != y.dim) return false;
  for (int64_t d = 0; d < x.dim; ++d) {
    if (x.shape[d] != y.shape[d]) return false;
  }
  return true;
}

// Dimensions [first, dim) lie without gaps, last one fastest.
inline bool is_contiguous(const Array& x, int64_t first = 0) {
  if (x.numel == 0) return true;  // whatever its strides
  int64_t expected = 1;
  for (int64_t d = x.dim - 1; d >= first; --d) {
    if (x.shape[d] != 1 && x.stride[d] != expected) return false;
    expected *= x.shape[d];
  }
  return true;
}

}  // namespace machin_fast

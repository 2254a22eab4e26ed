// The part of DLPack that turns a Python tensor into a view without a call into Python: torch hands
// out a table of C functions as `torch.Tensor.__dlpack_c_exchange_api__`. Its layout is a public,
// versioned ABI (github.com/dmlc/dlpack, version 1), stated here so that no torch header is needed.
#pragma once

#include <cstdint>

namespace machin_fast::dlpack {

inline constexpr uint32_t kMajorVersion = 1;
inline constexpr int32_t kCpu = 1, kCuda = 2, kCudaHost = 3;
inline constexpr uint8_t kInt = 0, kUInt = 1, kFloat = 2, kComplex = 5, kBool = 6;

struct Tensor {
  void* data;
  int32_t device_type;
  int32_t device_index;
  int32_t dim;
  uint8_t type_code;
  uint8_t type_bits;
  uint16_t type_lanes;
  int64_t* shape;
  int64_t* stride;
  uint64_t byte_offset;
};

struct ExchangeApi {
  uint32_t major_version;
  uint32_t minor_version;
  ExchangeApi* previous;
  void* allocate;
  void* managed_from_object;
  void* object_from_managed;
  // Fills a view that is valid while the object lives; 0, or -1 with a Python error set.
  int (*view_of_object)(void* object, Tensor* out);
  void* current_stream;
};

}  // namespace machin_fast::dlpack

// Between LibTorch's stable ABI and floor 0: tensors to Arrays, allocation, threads, streams,
// registration. Nothing of torch is used but torch/csrc/stable and torch/headeronly.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#ifdef MF_WITH_CUDA
#include <torch/csrc/stable/accelerator.h>
#endif

#include <utility>

#include "core/array.h"
#include "core/check.h"
#include "core/cuda_stream.h"

namespace machin_fast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Array view(const Tensor& x);

// x itself if it is contiguous, else a copy that is.
inline Tensor dense(const Tensor& x) {
  return x.is_contiguous() ? x : torch::stable::contiguous(x);  // skips a dispatch
}

// Uninitialised and contiguous, on the device of `like`.
Tensor empty(const int64_t* shape, int64_t dim, DType dtype, const Array& like);
inline Tensor empty_like(const Array& like, DType dtype) {
  return empty(like.shape, like.dim, dtype, like);
}

// Entries [first, first + count) of a vector, on the CPU. Waits for the device.
Tensor read_back(Tensor x, int64_t first, int64_t count);
template <typename T>
T read_one(const Tensor& x, int64_t at) {
  return *view(read_back(x, at, 1)).as<const T>();
}

// Calls body.operator()<float>() or <double>(). The dtype was checked before.
template <typename Body>
void dispatch_floating(DType dtype, const Body& body) {
  if (dtype == DType::kFloat64) {
    body.template operator()<double>();
  } else {
    body.template operator()<float>();
  }
}

// Splits [0, count) over torch's threads, at least `grain` a piece; small work stays here.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= grain) {
    if (count > 0) body(int64_t(0), count);
  } else {
    torch::stable::parallel_for(0, count, grain, body);
  }
}

#ifdef MF_WITH_CUDA
void check_launch(const char* op);

// Runs body(stream) on the current stream of x's device and checks the launch.
template <typename Body>
void on_cuda(const char* op, const Array& x, const Body& body) {
  const torch::stable::accelerator::DeviceGuard guard(x.device_index);
  void* stream = nullptr;
  MF_CHECK(aoti_torch_get_current_cuda_stream(x.device_index, &stream) == 0, op,
           ": CUDA's current stream must be readable, got an error from torch");
  body(CudaStream(stream));
  check_launch(op);
}
#else
template <typename Body>
[[noreturn]] void on_cuda(const char* op, const Array&, const Body&) {
  fail(op,
       ": tensors must be on the CPU, got cuda. machin_fast was built without CUDA; "
       "rebuild it with MF_CUDA=ON");
}
#endif

}  // namespace machin_fast

// One function serves both devices, so that their checks cannot drift apart. Once per file:
//   MF_IMPLEMENT(m) { m.impl("gae", TORCH_BOX(&gae)); }
#define MF_IMPLEMENT(m)                                           \
  static void implement(torch::stable::detail::StableLibrary& m); \
  STABLE_TORCH_LIBRARY_IMPL(machin_fast, CPU, library) {          \
    implement(library);                                           \
  }                                                               \
  STABLE_TORCH_LIBRARY_IMPL(machin_fast, CUDA, library) {         \
    implement(library);                                           \
  }                                                               \
  static void implement(torch::stable::detail::StableLibrary& m)

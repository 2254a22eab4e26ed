#pragma once

// Every `.cu` includes this instead of CUDA's headers, so that the same file compiles with nvcc
// and, for tests on machines without a GPU, as plain C++ under cpp_tests/cuda_on_cpu.h.

#include <cstdint>
#include <cstring>

#include "core/cuda_stream.h"

// MF_LAUNCH(kernel, grid, block, stream, args...): `kernel` is any kernel, a template instance
// such as scan<T, 2> needs no parentheses; grid and block are dim3 or integers; args convert to
// the kernel's parameters. An empty grid launches nothing (CUDA itself calls it an error).
// Whether the launch succeeded is for the caller to ask.
#if defined(__CUDACC__)
#include <cuda_runtime.h>

#include <type_traits>

#define MF_LAUNCH(...) ::machin_fast::launch_kernel(__VA_ARGS__)

namespace machin_fast {

template <typename... Params>
void launch_kernel(void (*kernel)(Params...), dim3 grid, dim3 block, CudaStream stream,
                   std::type_identity_t<Params>... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(args...);
}

// From host to device memory, in the stream's order; the source may be freed on return.
inline void copy_to_device(void* to, const void* from, int64_t bytes, CudaStream stream) {
  cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyHostToDevice,
                  static_cast<cudaStream_t>(stream));
}

}  // namespace machin_fast
#else
#define MF_LAUNCH(...) ::cuda_on_cpu::launch(#__VA_ARGS__, __VA_ARGS__)

namespace machin_fast {

inline void copy_to_device(void* to, const void* from, int64_t bytes, CudaStream) {
  std::memcpy(to, from, size_t(bytes));
}

}  // namespace machin_fast
#endif

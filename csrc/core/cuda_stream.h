#pragma once

namespace machin_fast {

// A cudaStream_t whose type is forgotten, so that headers which declare launches need no CUDA.
using CudaStream = void*;

}  // namespace machin_fast

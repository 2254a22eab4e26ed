#pragma once

// Marks a function that CPU loops, CUDA kernels and C++ tests share. It implies `inline`, and
// forces it: a recurrence that is called once per element has to melt into its caller's loop.
#if defined(__CUDACC__)
#define MF_HD __host__ __device__ __forceinline__
#else
#define MF_HD inline __attribute__((always_inline))
#endif

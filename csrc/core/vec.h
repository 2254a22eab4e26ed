// Numbers that may be one value or a pack of lanes, so that a formula is written once:
// `T` is float or double in CUDA kernels, and also Vec<float> or Vec<double> in the CPU loops.
// A pack is the compiler's vector extension: the same code becomes SSE, AVX2, AVX-512 or NEON.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "core/host_device.h"

#if defined(__SSE4_1__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

namespace machin_fast {

template <typename T>
struct Traits;  // Scalar: one lane; Mask: what T < T gives; Int: integers of the same width
template <>
struct Traits<float> {
  using Scalar = float;
  using Mask = bool;
  using Int = int32_t;
};
template <>
struct Traits<double> {
  using Scalar = double;
  using Mask = bool;
  using Int = int64_t;
};

#ifndef __CUDACC__

// Not `inline`: each instruction set has its own value.
#if defined(__AVX512F__)
constexpr int kVecBytes = 64;
#elif defined(__AVX2__)
constexpr int kVecBytes = 32;
#else
constexpr int kVecBytes = 16;
#endif

template <typename T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVecBytes)));
};
template <typename T>
using Vec = typename VecOf<T>::type;

template <>
struct Traits<Vec<float>> {
  using Scalar = float;
  using Mask = decltype(Vec<float>{} < Vec<float>{});
  using Int = Vec<int32_t>;
};
template <>
struct Traits<Vec<double>> {
  using Scalar = double;
  using Mask = decltype(Vec<double>{} < Vec<double>{});
  using Int = Vec<int64_t>;
};

#endif  // __CUDACC__

template <typename T>
using Scalar = typename Traits<T>::Scalar;
template <typename T>
using Mask = typename Traits<T>::Mask;
template <typename T>
constexpr int kLanes = int(sizeof(T) / sizeof(Scalar<T>));

template <typename T>
MF_HD T splat(Scalar<T> x) {
  if constexpr (kLanes<T> == 1) {
    return x;
  } else {
    return x - T{};  // x - 0 keeps the sign of zero
  }
}

// A choice per lane, never arithmetic: a NaN in the lane not chosen must not leak.
template <typename T>
MF_HD T select(Mask<T> mask, T yes, T no) {
  return mask ? yes : no;
}

// The smaller of x and limit; a NaN in x stays.
template <typename T>
MF_HD T clip_above(T x, Scalar<T> limit) {
  const T bound = splat<T>(limit);
  return select<T>(x > bound, bound, x);
}

// kLanes<T> numbers from p[i]; no alignment is asked for.
template <typename T>
MF_HD T load(const Scalar<T>* p, int64_t i) {
  if constexpr (kLanes<T> == 1) {
    return p[i];
  } else {
    T x;
    std::memcpy(&x, p + i, sizeof x);
    return x;
  }
}

template <typename T>
MF_HD void store(Scalar<T>* p, int64_t i, T x) {
  if constexpr (kLanes<T> == 1) {
    p[i] = x;
  } else {
    std::memcpy(p + i, &x, sizeof x);
  }
}

template <typename T>
MF_HD Mask<T> splat_mask(bool on) {
  if constexpr (kLanes<T> == 1) {
    return on;
  } else {
    return Mask<T>{} - typename std::remove_reference_t<decltype(Mask<T>{}[0])>(on);
  }
}

#ifndef __CUDACC__
// Bytes to integers of a lane's width. Left to itself, gcc 12 does it in eight pieces.
template <typename Int>
MF_HD Int widen(const bool* p) {
  constexpr int kCount = int(sizeof(Int) / sizeof(Int{}[0]));
  typedef int8_t Bytes __attribute__((vector_size(kCount)));
  Bytes bytes;
  std::memcpy(&bytes, p, sizeof bytes);
#if defined(__AVX512F__)
  if constexpr (kCount == 16) {
    return (Int)_mm512_cvtepi8_epi32((__m128i)bytes);
  } else {
    return (Int)_mm512_cvtepi8_epi64(_mm_loadu_si64(&bytes));
  }
#elif defined(__AVX2__)
  if constexpr (kCount == 8) {
    return (Int)_mm256_cvtepi8_epi32(_mm_loadu_si64(&bytes));
  } else {
    return (Int)_mm256_cvtepi8_epi64(_mm_loadu_si32(&bytes));
  }
#elif defined(__SSE4_1__)
  if constexpr (kCount == 4) {
    return (Int)_mm_cvtepi8_epi32(_mm_loadu_si32(&bytes));
  } else {
    return (Int)_mm_cvtepi8_epi64(_mm_loadu_si16(&bytes));
  }
#else
  return __builtin_convertvector(bytes, Int);
#endif
}
#endif  // __CUDACC__

#ifndef __CUDACC__
template <typename T>
MF_HD bool any(Mask<T> mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
  typedef int64_t Two __attribute__((vector_size(16)));
  const Two two = (Two)mask;
  return (two[0] | two[1]) != 0;
#endif
}
#endif  // __CUDACC__

// The flags of kLanes<T> rows from p[i].
template <typename T>
MF_HD Mask<T> load_flag(const bool* p, int64_t i) {
  if constexpr (kLanes<T> == 1) {
    return p[i];
  } else {
    return widen<typename Traits<T>::Int>(p + i) != 0;
  }
}

}  // namespace machin_fast

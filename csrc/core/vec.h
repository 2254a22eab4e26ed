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
struct Traits;  // Scalar: one lane; Mask: what less() gives; Int: integers of the same width
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
#if defined(__AVX512F__)
  using Mask = __mmask16;  // a bit per lane, in the registers made for it
#else
  using Mask = decltype(Vec<float>{} < Vec<float>{});
#endif
  using Int = Vec<int32_t>;
};
template <>
struct Traits<Vec<double>> {
  using Scalar = double;
#if defined(__AVX512F__)
  using Mask = __mmask8;
#else
  using Mask = decltype(Vec<double>{} < Vec<double>{});
#endif
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

// Comparisons, and a choice per lane: never arithmetic, a NaN in the lane not chosen must not leak.
template <typename T>
MF_HD Mask<T> less(T x, T y) {
  return x < y;
}
template <typename T>
MF_HD Mask<T> equal(T x, T y) {
  return x == y;
}
template <typename T>
MF_HD T select(Mask<T> mask, T yes, T no) {
  return mask ? yes : no;
}

#if defined(__AVX512F__) && !defined(__CUDACC__)
template <>
MF_HD Mask<Vec<float>> less(Vec<float> x, Vec<float> y) {
  return _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ);
}
template <>
MF_HD Mask<Vec<double>> less(Vec<double> x, Vec<double> y) {
  return _mm512_cmp_pd_mask(x, y, _CMP_LT_OQ);
}
template <>
MF_HD Mask<Vec<float>> equal(Vec<float> x, Vec<float> y) {
  return _mm512_cmp_ps_mask(x, y, _CMP_EQ_OQ);
}
template <>
MF_HD Mask<Vec<double>> equal(Vec<double> x, Vec<double> y) {
  return _mm512_cmp_pd_mask(x, y, _CMP_EQ_OQ);
}
template <>
MF_HD Vec<float> select(Mask<Vec<float>> mask, Vec<float> yes, Vec<float> no) {
  return _mm512_mask_blend_ps(mask, no, yes);
}
template <>
MF_HD Vec<double> select(Mask<Vec<double>> mask, Vec<double> yes, Vec<double> no) {
  return _mm512_mask_blend_pd(mask, no, yes);
}
#endif

// The smaller of x and limit; a NaN in x stays.
template <typename T>
MF_HD T clip_above(T x, Scalar<T> limit) {
  const T bound = splat<T>(limit);
  return select<T>(less(bound, x), bound, x);
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
#if defined(__AVX512F__) && !defined(__CUDACC__)
    return on ? Mask<T>(-1) : Mask<T>(0);
#else
    return Mask<T>{} - typename std::remove_reference_t<decltype(Mask<T>{}[0])>(on);
#endif
  }
}

#ifndef __CUDACC__

template <typename T>
MF_HD void set_lane(Mask<T>& mask, int lane) {
#if defined(__AVX512F__)
  mask = Mask<T>(mask | 1u << lane);
#else
  mask[lane] = -1;
#endif
}

template <typename T>
MF_HD bool any(Mask<T> mask) {
#if defined(__AVX512F__)
  return mask != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
  typedef int64_t Two __attribute__((vector_size(16)));
  const Two two = (Two)mask;
  return (two[0] | two[1]) != 0;
#endif
}

// Flags to a mask. Left to itself, gcc 12 widens bytes in eight pieces.
template <typename T>
MF_HD Mask<T> mask_of(const bool* p) {
  typedef int8_t Bytes __attribute__((vector_size(kLanes<T>)));
  Bytes bytes;
  std::memcpy(&bytes, p, sizeof bytes);
#if defined(__AVX512F__)
  if constexpr (kLanes<T> == 16) {
    return _mm_test_epi8_mask((__m128i)bytes, (__m128i)bytes);
  } else {
    const __m128i low = _mm_loadu_si64(&bytes);
    return Mask<T>(_mm_test_epi8_mask(low, low));
  }
#elif defined(__AVX2__)
  if constexpr (kLanes<T> == 8) {
    return (typename Traits<T>::Int)_mm256_cvtepi8_epi32(_mm_loadu_si64(&bytes)) != 0;
  } else {
    return (typename Traits<T>::Int)_mm256_cvtepi8_epi64(_mm_loadu_si32(&bytes)) != 0;
  }
#elif defined(__SSE4_1__)
  if constexpr (kLanes<T> == 4) {
    return (typename Traits<T>::Int)_mm_cvtepi8_epi32(_mm_loadu_si32(&bytes)) != 0;
  } else {
    return (typename Traits<T>::Int)_mm_cvtepi8_epi64(_mm_loadu_si16(&bytes)) != 0;
  }
#else
  return __builtin_convertvector(bytes, typename Traits<T>::Int) != 0;
#endif
}

#endif  // __CUDACC__

// The flags of kLanes<T> rows from p[i].
template <typename T>
MF_HD Mask<T> load_flag(const bool* p, int64_t i) {
  if constexpr (kLanes<T> == 1) {
    return p[i];
  } else {
    return mask_of<T>(p + i);
  }
}

}  // namespace machin_fast

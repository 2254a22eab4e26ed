// e^x for a value or a pack of lanes. libm's is neither vectorised at every instruction set
// nor the same on all of them; this one is exact to 1 ulp of float (1.22 without FMA) and
// 2 ulp of double, gives inf above the range, 0 below it, and keeps NaN.
#pragma once

#include <cmath>

#include "core/vec.h"

namespace machin_fast {

#ifdef __CUDACC__
template <typename T>
MF_HD T exp_lanes(T x) {
  if constexpr (sizeof(T) == 4) {
    return ::expf(x);
  } else {
    return ::exp(x);
  }
}
#else

// Taylor coefficients 1/k!, highest first. The argument is reduced to |r| <= ln(2)/2, where
// degree 7 (13) leaves less than half an ulp of float (double).
template <typename N>
inline constexpr int kExpDegree = sizeof(N) == 4 ? 7 : 13;

template <typename T>
MF_HD T exp_lanes(T x) {
  using N = Scalar<T>;
  using Int = typename Traits<T>::Int;
  constexpr int kMantissa = sizeof(N) == 4 ? 23 : 52;
  constexpr int kBias = sizeof(N) == 4 ? 127 : 1023;
  constexpr N kLow = sizeof(N) == 4 ? N(-87.3) : N(-708.3);
  constexpr N kHigh = sizeof(N) == 4 ? N(88.72) : N(709.78);
  constexpr N kLn2High = sizeof(N) == 4 ? N(0.693359375) : N(0.693147180369123816490);
  constexpr N kLn2Low = sizeof(N) == 4 ? N(-2.12194440e-4) : N(1.90821492927058770002e-10);

  const T low = splat<T>(kLow), high = splat<T>(kHigh);
  // NaN compares false both times and so becomes `low`; it is put back at the end.
  T clamped = select<T>(less(low, x), x, low);
  clamped = select<T>(less(clamped, high), clamped, high);

  // Adding 1.5 * 2^mantissa leaves round-to-nearest(x / ln 2) in the low bits.
  const T shifter = splat<T>(N(3) * N(int64_t(1) << (kMantissa - 1)));
  const T shifted = clamped * N(1.44269504088896340736) + shifter;
  const T n = shifted - shifter;
  const T r = (clamped - n * kLn2High) - n * kLn2Low;

  N coefficient = 1;
  for (int k = 2; k <= kExpDegree<N>; ++k) coefficient /= N(k);
  T p = splat<T>(coefficient);
  for (int k = kExpDegree<N>; k > 0; --k) {
    coefficient *= N(k);
    p = p * r + coefficient;
  }
  // 2^n in two factors, since n may be one more than the largest exponent.
  Int whole;
  if constexpr (kLanes<T> == 1) {
    whole = Int(n);
  } else {
    whole = __builtin_convertvector(n, Int);
  }
  const Int half = whole >> 1;
  const Int bits[2] = {(half + kBias) << kMantissa, (whole - half + kBias) << kMantissa};
  T scale[2];
  std::memcpy(scale, bits, sizeof scale);
  T result = p * scale[0] * scale[1];

  result = select<T>(less(x, low), T{}, result);
  result = select<T>(less(high, x), splat<T>(N(INFINITY)), result);
  return select<T>(equal(x, x), result, x);
}
#endif  // __CUDACC__

}  // namespace machin_fast

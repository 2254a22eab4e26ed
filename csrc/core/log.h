// ln x of a double or a pack of doubles, for the reasons of core/exp.h: exact to 0.8 ulp, -inf of
// 0, NaN of what is negative, inf and NaN as they are.
#pragma once

#include <cmath>

#include "core/vec.h"

namespace machin_fast {

#ifdef __CUDACC__
MF_HD double log_lanes(double x) {
  return ::log(x);
}
#else

// Terms of the series 2/3 z + 2/5 z^2 + ... below, where z < 0.0295: what they leave is a tenth of
// an ulp.
inline constexpr int kLogTerms = 10;

template <typename T>
MF_HD T log_lanes(T x) {
  static_assert(sizeof(Scalar<T>) == 8);
  using Int = typename Traits<T>::Int;
  constexpr double kSmallestNormal = 0x1p-1022;
  constexpr double kLn2High = 0.693147180369123816490;  // times a whole exponent it is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;

  const Mask<T> denormal = less(x, splat<T>(kSmallestNormal));
  const T scaled = select<T>(denormal, x * 0x1p54, x);

  // x = 2^k * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), so that nothing cancels near x = 1.
  constexpr int64_t kRootHalf = 0x3fe6a09e667f3bcd;
  Int bits;
  std::memcpy(&bits, &scaled, sizeof bits);
  bits &= INT64_MAX;  // the difference below must not overflow for a negative x
  const Int exponent = (bits - kRootHalf) >> 52;
  bits -= exponent << 52;
  T f;
  std::memcpy(&f, &bits, sizeof f);
  f -= 1;
  // A conversion to double that every instruction set has: the low bits of 1.5 * 2^52.
  constexpr double kShifter = 0x1.8p52;
  constexpr int64_t kShifterBits = 0x4338000000000000;
  const Int shifted = exponent + kShifterBits;
  T k;
  std::memcpy(&k, &shifted, sizeof k);
  k -= kShifter;
  k = select<T>(denormal, k - 54, k);

  // With s = f / (2 + f): ln(1 + f) = 2 artanh(s) = 2s + s * series(s^2), and 2s = f - s * f.
  const T s = f / (f + 2);
  const T z = s * s;
  T series = splat<T>(2.0 / (2 * kLogTerms + 1));
  for (int j = kLogTerms - 1; j > 0; --j) series = series * z + 2.0 / (2 * j + 1);
  series *= z;
  const T half_square = f * f * 0.5;
  T result = k * kLn2High - ((half_square - (s * (half_square + series) + k * kLn2Low)) - f);

  result = select<T>(less(x, T{}), splat<T>(NAN), result);
  result = select<T>(equal(x, T{}), splat<T>(-INFINITY), result);
  // Infinity, and NaN, which compares false.
  return select<T>(less(x, splat<T>(INFINITY)), result, x);
}
#endif  // __CUDACC__

}  // namespace machin_fast

// sin x and cos x of a double or a pack of doubles, in additions, multiplications and choices
// alone: compiled without contraction (see CMakeLists.txt), their bits are the same on every
// processor and device, which those of libm's are not. Exact to 2^-52 up to |x| = 10^6; beyond
// that the error grows as x does.
#pragma once

#include "core/vec.h"

namespace machin_fast {

// The nearest whole number of x, |x| < 2^51; a half goes to the even one.
template <typename T>
MF_HD T nearest(T x) {
  constexpr double kShifter = 0x1.8p52;  // leaves no bits behind the point
  return (x + kShifter) - kShifter;
}

template <typename T>
struct SinCos {
  T sin, cos;
};

template <typename T>
MF_HD SinCos<T> sin_cos(T x) {
  static_assert(sizeof(Scalar<T>) == 8);
  // pi/2 in three parts, of 33, 33 and 53 bits: a product of n and one of the first two is exact.
  constexpr double kHigh = 0x1.921fb544p+0, kMiddle = 0x1.0b4611a6p-34,
                   kLow = 0x1.3198a2e037073p-69;
  constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  // Taylor's coefficients of r^3 .. r^15 and r^4 .. r^16: |r| <= pi/4 leaves less than 2^-53.
  constexpr int kTerms = 7;

  const T n = nearest<T>(x * kTwoOverPi);
  const T r = ((x - n * kHigh) - n * kMiddle) - n * kLow;
  const T z = r * r;
  double factorial = 1;  // of 2 * kTerms
  for (int k = 2; k <= 2 * kTerms; ++k) factorial *= k;
  T odd{}, even{};
  for (int k = kTerms; k > 0; --k) {
    const double sign = k % 2 == 0 ? 1 : -1;
    odd = odd * z + sign / (factorial * (2 * k + 1));
    even = even * z - sign / (factorial * (2 * k + 1) * (2 * k + 2));
    factorial /= 2 * k * (2 * k - 1);
  }
  const T sin = r + r * z * odd;
  const T cos = 1 - (z * 0.5 - z * z * even);

  // n mod 4, from -2 to 2: which quarter of the circle x is in.
  const T quarter = n - 4 * nearest<T>(n * 0.25);
  const T square = quarter * quarter;
  const Mask<T> sideways = equal<T>(square, splat<T>(1));
  const Mask<T> opposite = equal<T>(square, splat<T>(4));
  const T first = select<T>(sideways, cos, sin);
  const T second = select<T>(sideways, sin, cos);
  return {select<T>(opposite | less<T>(quarter, T{}), -first, first),
          select<T>(opposite | less<T>(T{}, quarter), -second, second)};
}

}  // namespace machin_fast

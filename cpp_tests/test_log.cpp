#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "core/isa.h"
#include "log_twins.h"
#include "twins.h"

namespace machin_fast {
namespace {

using Limits = std::numeric_limits<double>;

template <typename Body>
void on_every_twin(const std::vector<double>& x, Body body) {
  for (const Isa isa : isas()) {
    SCOPED_TRACE(isa_name(isa));
    std::vector<double> y(x.size());
    const int64_t n = int64_t(x.size());
    MF_CALL_ON(isa, log_packs(x.data(), y.data(), n));
    body(y);
    MF_CALL_ON(isa, log_scalars(x.data(), y.data(), n));
    body(y);
  }
}

// Distance in units of the last place of the exact result's neighbourhood.
double ulps(double got, long double exact) {
  const double rounded = std::abs(double(exact));
  const double step = std::nextafter(rounded, Limits::infinity()) - rounded;
  return double(std::abs(got - exact) / step);
}

void expect_within(const std::vector<double>& x, double allowed) {
  on_every_twin(x, [&](const std::vector<double>& y) {
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = ulps(y[i], std::log(static_cast<long double>(x[i])));
      if (error > worst) worst = error, at = i;
    }
    EXPECT_LE(worst, allowed) << "at x = " << x[at];
  });
}

TEST(Log, AnyPositiveNumberIsWithinTheBound) {
  std::mt19937_64 random(1);
  std::vector<double> x;
  for (int i = 0; i < 200000; ++i) {
    // Bits at random, so that every exponent comes as often, denormal ones too.
    x.push_back(std::bit_cast<double>(random() % std::bit_cast<uint64_t>(Limits::infinity())));
  }
  for (int i = 0; i < 1000; ++i) x.push_back(Limits::denorm_min() * double(random() >> (i % 64)));
  expect_within(x, 0.8);
}

// Where the result is small and an absolute error would show.
TEST(Log, NumbersAroundOneAreWithinTheBound) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> wide(0.5, 2), exponent(-52, 0);
  std::vector<double> x;
  for (int i = 0; i < 100000; ++i) {
    x.push_back(wide(random));
    x.push_back(1 + std::exp2(exponent(random)) * (i % 2 == 0 ? 1 : -0.5));
  }
  expect_within(x, 0.8);
}

TEST(Log, OneIsExactlyZeroAndTheEndsAreRight) {
  const double inf = Limits::infinity(), nan = Limits::quiet_NaN();
  const std::vector<double> at = {1, 0, -0.0, inf, -inf, nan, -1, -Limits::denorm_min(), -1e300};
  const std::vector<double> want = {0, -inf, -inf, inf, nan, nan, nan, nan, nan};
  // Each value in every lane of a pack, and beside one of another kind.
  std::vector<double> x, expected;
  for (size_t k = 0; k < at.size(); ++k) {
    x.insert(x.end(), 9, at[k]);
    expected.insert(expected.end(), 9, want[k]);
  }
  for (size_t k = 0; k < at.size(); ++k) {
    x.insert(x.end(), {at[k], 1});
    expected.insert(expected.end(), {want[k], 0});
  }
  on_every_twin(x, [&](const std::vector<double>& y) {
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(expected[i])) {
        ASSERT_TRUE(std::isnan(y[i])) << "x = " << x[i];
      } else {
        ASSERT_EQ(y[i], expected[i]) << "x = " << x[i];
        ASSERT_FALSE(y[i] == 0 && std::signbit(y[i])) << "x = " << x[i];
      }
    }
  });
}

}  // namespace
}  // namespace machin_fast

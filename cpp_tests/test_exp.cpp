#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/isa.h"
#include "exp_twins.h"
#include "twins.h"

namespace machin_fast {
namespace {

template <typename N>
using Limits = std::numeric_limits<N>;

template <typename N, typename Body>
void on_every_twin(const std::vector<N>& x, Body body) {
  for (const Isa isa : isas()) {
    SCOPED_TRACE(isa_name(isa));
    std::vector<N> y(x.size());
    const int64_t n = int64_t(x.size());
    MF_CALL_ON(isa, exp_packs(x.data(), y.data(), n));
    body(y);
    MF_CALL_ON(isa, exp_scalars(x.data(), y.data(), n));
    body(y);
  }
}

// Distance in units of the last place of the exact result's neighbourhood.
template <typename N, typename Exact>
double ulps(N got, Exact exact) {
  const N rounded = N(exact);
  const N step = std::nextafter(rounded, Limits<N>::infinity()) - rounded;
  return double(std::abs(got - exact) / step);
}

template <typename N, typename Exact>
void expect_within(const std::vector<N>& x, double allowed) {
  on_every_twin(x, [&](const std::vector<N>& y) {
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = ulps(y[i], std::exp(Exact(x[i])));
      if (error > worst) worst = error, at = i;
    }
    EXPECT_LE(worst, allowed) << "at x = " << x[at];
  });
}

TEST(Exp, FloatIsWithinItsBound) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 0xff800000u; bits += 4099) {
    const float value = std::bit_cast<float>(bits);
    if (value >= -87.3f && value <= 88.72f) x.push_back(value);
  }
  ASSERT_GT(x.size(), 500000u);
  expect_within<float, double>(x, 1.22);
}

TEST(Exp, DoubleIsWithinItsBound) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> wide(-708.3, 709.78), narrow(-2, 2);
  std::vector<double> x;
  for (int i = 0; i < 100000; ++i) {
    x.push_back(wide(random));
    x.push_back(narrow(random));
  }
  expect_within<double, long double>(x, 2);
}

template <typename N>
void expect_at_the_ends() {
  const N inf = Limits<N>::infinity();
  const N over = sizeof(N) == 4 ? N(88.8) : N(709.9), under = sizeof(N) == 4 ? N(-87.4) : N(-708.5);
  const std::vector<N> at = {0,
                             N(-0.0),
                             inf,
                             -inf,
                             over,
                             1000,
                             Limits<N>::max(),
                             under,
                             -1000,
                             Limits<N>::lowest(),
                             Limits<N>::denorm_min()};
  const std::vector<N> want = {1, 1, inf, 0, inf, inf, inf, 0, 0, 0, 1};
  // Each value in every lane of a pack, and beside a NaN.
  std::vector<N> x;
  for (const N value : at) x.insert(x.end(), 17, value);
  x.insert(x.end(), 17, Limits<N>::quiet_NaN());
  for (const N value : at) x.insert(x.end(), {value, Limits<N>::quiet_NaN()});
  on_every_twin(x, [&](const std::vector<N>& y) {
    for (size_t i = 0; i < at.size() * 17; ++i) {
      ASSERT_EQ(y[i], want[i / 17]) << "x = " << x[i];
    }
    for (size_t i = at.size() * 17; i < (at.size() + 1) * 17; ++i) ASSERT_TRUE(std::isnan(y[i]));
    for (size_t k = 0; k < at.size(); ++k) {
      const size_t i = (at.size() + 1) * 17 + 2 * k;
      ASSERT_EQ(y[i], want[k]) << "x = " << x[i];
      ASSERT_TRUE(std::isnan(y[i + 1])) << "beside x = " << x[i];
    }
  });
}

TEST(Exp, OverflowIsInfUnderflowIsZeroAndNanStays) {
  expect_at_the_ends<float>();
  expect_at_the_ends<double>();
}

}  // namespace
}  // namespace machin_fast

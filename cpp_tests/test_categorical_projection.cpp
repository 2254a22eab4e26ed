#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda_on_cpu.h"
#include "ops/categorical_projection.h"
#include "twins.h"

namespace machin_fast {
namespace {

template <typename N>
struct Case {
  int64_t batch, atoms;
  N v_min, v_max;
  std::vector<N> probability, reward, discount;

  N spacing() const { return (v_max - v_min) / N(atoms - 1); }
};

// Rewards reach beyond both ends, and every third row is terminated.
template <typename N>
Case<N> random_case(int64_t batch, int64_t atoms) {
  Case<N> c = {batch, atoms, N(-3), N(5), {}, {}, {}};
  std::mt19937_64 random(uint64_t(batch * 1009 + atoms));
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int64_t row = 0; row < batch; ++row) {
    double total = 0;
    std::vector<double> mass;
    for (int64_t j = 0; j < atoms; ++j) total += mass.emplace_back(uniform(random));
    for (const double m : mass) c.probability.push_back(N(m / total));
    c.reward.push_back(N(20 * uniform(random) - 10));
    c.discount.push_back(row % 3 == 2 ? N(0) : N(uniform(random)));
  }
  return c;
}

// Bellemare et al. 2017, arXiv:1707.06887, algorithm 1, with the mass of an atom that is hit
// exactly, which the paper drops.
template <typename N>
std::vector<double> by_hand(const Case<N>& c) {
  std::vector<double> m(c.probability.size());
  const double v_min = c.v_min, v_max = c.v_max, spacing = (v_max - v_min) / double(c.atoms - 1);
  for (int64_t row = 0; row < c.batch; ++row) {
    for (int64_t j = 0; j < c.atoms; ++j) {
      const double moved = c.reward[row] + c.discount[row] * (v_min + double(j) * spacing);
      const double b = (std::min(std::max(moved, v_min), v_max) - v_min) / spacing;
      const double l = std::floor(b), u = std::ceil(b), p = c.probability[row * c.atoms + j];
      m[size_t(row * c.atoms + int64_t(l))] += l == u ? p : p * (u - b);
      m[size_t(row * c.atoms + int64_t(u))] += p * (b - l);
    }
  }
  return m;
}

// Calls check(result, name) for each twin.
template <typename N, typename Check>
void on_every_twin(const Case<N>& c, Check check) {
  std::vector<N> out(c.probability.size());
  const CategoricalProjection<N> args = {.next_probability = c.probability.data(),
                                         .reward = c.reward.data(),
                                         .discount = c.discount.data(),
                                         .out = out.data(),
                                         .batch = c.batch,
                                         .atoms = c.atoms,
                                         .v_min = c.v_min,
                                         .spacing = c.spacing()};
  const auto run = [&](const std::string& name, auto call) {
    std::fill(out.begin(), out.end(), N(77));
    call();
    check(out, name);
  };
  for (const Isa isa : isas()) {
    run(isa_name(isa), [&] { MF_CALL_ON(isa, project_rows(args, 0, c.batch)); });
  }
  cuda_on_cpu::for_each_order(
      [&] { run("cuda", [&] { launch_categorical_projection(args, nullptr); }); });
}

template <typename N>
class CategoricalProjectionTest : public testing::Test {};
using Numbers = testing::Types<float, double>;
TYPED_TEST_SUITE(CategoricalProjectionTest, Numbers);

TYPED_TEST(CategoricalProjectionTest, AgreesWithAlgorithmOne) {
  const double tolerance = sizeof(TypeParam) == 4 ? 2e-5 : 1e-13;
  for (const int64_t batch : {0, 1, 7, 64, 65}) {
    for (const int64_t atoms : {2, 3, 51, 64, 65, 300}) {
      const auto c = random_case<TypeParam>(batch, atoms);
      const std::vector<double> expected = by_hand(c);
      on_every_twin(c, [&](const std::vector<TypeParam>& got, const std::string& twin) {
        double worst = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
          worst = std::max(worst, std::abs(double(got[i]) - expected[i]));
        }
        EXPECT_LT(worst, tolerance) << twin << ", batch " << batch << ", atoms " << atoms;
      });
    }
  }
}

TYPED_TEST(CategoricalProjectionTest, MassIsConserved) {
  const auto c = random_case<TypeParam>(200, 51);
  on_every_twin(c, [&](const std::vector<TypeParam>& got, const std::string& twin) {
    for (int64_t row = 0; row < c.batch; ++row) {
      double mass = 0;
      for (int64_t i = 0; i < c.atoms; ++i) mass += got[size_t(row * c.atoms + i)];
      EXPECT_NEAR(mass, 1, sizeof(TypeParam) == 4 ? 1e-6 : 1e-14) << twin << ", row " << row;
    }
  });
}

// By hand, with numbers that are exact: atoms at -1, -0.5, 0, 0.5, 1.
TYPED_TEST(CategoricalProjectionTest, AtomsHitExactlyAndClippedOnesKeepTheirMass) {
  using Row = std::vector<TypeParam>;
  const Row p = {0.125, 0.25, 0.5, 0.0625, 0.0625};
  const auto expect = [&](TypeParam reward, TypeParam discount, const Row& expected) {
    on_every_twin<TypeParam>({1, 5, -1, 1, p, {reward}, {discount}},
                             [&](const Row& got, const std::string& twin) {
                               EXPECT_EQ(got, expected) << twin << ", reward " << reward;
                             });
  };
  expect(0, 1, p);
  expect(0.5, 1, {0, 0.125, 0.25, 0.5, 0.125});
  expect(-0.5, 1, {0.375, 0.5, 0.0625, 0.0625, 0});
  expect(0.25, 1, {0.0625, 0.1875, 0.375, 0.28125, 0.09375});
  expect(0, 0.5, {0, 0.25, 0.65625, 0.09375, 0});
  expect(9, 1, {0, 0, 0, 0, 1});
  expect(-9, 1, {1, 0, 0, 0, 0});
  expect(1, 0, {0, 0, 0, 0, 1});
  expect(-1, 0, {1, 0, 0, 0, 0});
  expect(0.125, 0, {0, 0, 0.75, 0.25, 0});
  // No discount is negative, but all twins would agree on it.
  expect(0, -1, {0.0625, 0.0625, 0.5, 0.25, 0.125});
}

TYPED_TEST(CategoricalProjectionTest, NoFiniteNumberIsMadeOfOneThatIsNot) {
  const TypeParam nan = std::numeric_limits<TypeParam>::quiet_NaN();
  const TypeParam inf = std::numeric_limits<TypeParam>::infinity();
  auto c = random_case<TypeParam>(8, 51);
  c.reward[1] = nan;
  c.discount[3] = nan;
  c.reward[4] = inf;
  c.discount[5] = inf;
  c.reward[6] = -inf;
  c.discount[6] = inf;
  const auto healthy = random_case<TypeParam>(8, 51);
  const std::vector<double> expected = by_hand(healthy);
  on_every_twin(c, [&](const std::vector<TypeParam>& got, const std::string& twin) {
    for (int64_t row = 0; row < c.batch; ++row) {
      const bool spoilt = row == 1 || (row >= 3 && row <= 6);
      for (int64_t i = row * c.atoms; i < (row + 1) * c.atoms; ++i) {
        if (spoilt) {
          EXPECT_TRUE(std::isnan(got[size_t(i)])) << twin << ", row " << row;
        } else {
          EXPECT_NEAR(got[size_t(i)], expected[size_t(i)], 1e-5) << twin << ", row " << row;
        }
      }
    }
  });
}

}  // namespace
}  // namespace machin_fast

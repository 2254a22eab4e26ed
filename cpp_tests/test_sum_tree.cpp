#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "cuda_on_cpu.h"
#include "ops/sum_tree.h"
#include "twins.h"

namespace machin_fast {
namespace {

// A tree in plain memory, worked on by one of the twins.
template <typename N>
struct Tree {
  SumTreeLayout layout;
  std::vector<N> nodes;

  explicit Tree(int64_t capacity, bool minimum = true) : layout(sum_tree_layout(capacity)) {
    nodes.resize(size_t(layout.size(minimum)));
    layout.has_minimum = int64_t(nodes.size()) > layout.size(false);
  }
  N* data() { return nodes.data(); }
  N& leaf(int64_t i) { return nodes[size_t(layout.leaves() + i)]; }
  int64_t padded() const { return layout.width[layout.leaf_level()]; }
};

template <typename N>
struct Batch {
  std::vector<int64_t> index;
  std::vector<N> weight;
  int64_t size() const { return int64_t(index.size()); }
};

template <typename N>
Batch<N> random_batch(int64_t capacity, int64_t n, std::mt19937_64& random) {
  Batch<N> batch;
  for (int64_t i = 0; i < n; ++i) {
    batch.index.push_back(int64_t(random() % uint64_t(capacity)));
    batch.weight.push_back(random() % 5 == 0 ? N(0) : std::exp2(N(random() % 4000) / 100 - 20));
  }
  return batch;
}

// The twins: every instruction set, and the kernels under the emulator.
struct Cpu {
  Isa isa;

  template <typename N>
  int64_t update(Tree<N>& tree, const Batch<N>& batch) const {
    const int64_t n = batch.size();
    const int64_t refused = MF_CALL_ON(
        isa,
        sum_tree_refused(tree.data(), tree.layout, batch.index.data(), batch.weight.data(), n));
    if (refused == n && n > 0) {
      MF_CALL_ON(isa, sum_tree_update(tree.data(), tree.layout, batch.index.data(),
                                      batch.weight.data(), n));
    }
    return refused;
  }
  template <typename N>
  void rebuild(Tree<N>& tree) const {
    MF_CALL_ON(isa, sum_tree_rebuild(tree.data(), tree.layout));
  }
  template <typename N>
  void search(SumTreeSearch<N> search, int top_levels) const {
    search.total = block_sum(search.nodes);
    std::vector<double> starts(size_t(search.layout.sums));
    MF_CALL_ON(isa, sum_tree_starts(search, top_levels, starts.data()));
    MF_CALL_ON(isa, sum_tree_search(search, starts.data(), top_levels, 0, search.draws));
  }
};

struct EmulatedCuda {
  template <typename N>
  int64_t update(Tree<N>& tree, const Batch<N>& batch) const {
    int64_t status = -1;
    launch_sum_tree_update(tree.data(), tree.layout, batch.index.data(), batch.weight.data(),
                           batch.size(), &status, nullptr);
    return status;
  }
  template <typename N>
  void rebuild(Tree<N>& tree) const {
    int64_t status = -1;
    launch_sum_tree_rebuild(tree.data(), tree.layout, &status, nullptr);
    ASSERT_EQ(status, tree.padded());
  }
  template <typename N>
  void search(const SumTreeSearch<N>& search, int) const {
    launch_sum_tree_search(search, nullptr);
  }
};

template <typename Body>
void for_each_twin(const Body& body) {
  for (const Isa isa : isas()) {
    SCOPED_TRACE(isa_name(isa));
    body(Cpu{isa});
  }
  cuda_on_cpu::for_each_order([&] {
    SCOPED_TRACE("emulated CUDA");
    body(EmulatedCuda{});
  });
}

template <typename N>
class SumTreeTest : public testing::Test {};
using Numbers = testing::Types<float, double>;
TYPED_TEST_SUITE(SumTreeTest, Numbers);

const int64_t kCapacities[] = {1, 2, 3, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 5000};

TYPED_TEST(SumTreeTest, AnUpdatedTreeEqualsARebuiltOneBitForBit) {
  for (const int64_t capacity : kCapacities) {
    for_each_twin([&](const auto& twin) {
      std::mt19937_64 random{uint64_t(capacity)};
      Tree<TypeParam> tree(capacity);
      std::map<int64_t, TypeParam> model;
      for (const int64_t n : {1, 7, 64, 300, 0, 2}) {
        const auto batch = random_batch<TypeParam>(capacity, n, random);
        ASSERT_EQ(twin.update(tree, batch), n);
        for (int64_t i = 0; i < n; ++i) model[batch.index[size_t(i)]] = batch.weight[size_t(i)];
      }
      for (const auto& [i, weight] : model) ASSERT_EQ(tree.leaf(i), weight) << "leaf " << i;

      Tree<TypeParam> rebuilt(capacity);
      for (int64_t i = 0; i < capacity; ++i) rebuilt.leaf(i) = tree.leaf(i);
      Cpu{Isa::kBaseline}.rebuild(rebuilt);
      ASSERT_EQ(0, std::memcmp(tree.data(), rebuilt.data(), tree.nodes.size() * sizeof(TypeParam)));
      twin.rebuild(rebuilt);
      ASSERT_EQ(0, std::memcmp(tree.data(), rebuilt.data(), tree.nodes.size() * sizeof(TypeParam)));
    });
  }
}

TYPED_TEST(SumTreeTest, ARepeatedIndexKeepsItsLastWeight) {
  for_each_twin([](const auto& twin) {
    Tree<TypeParam> tree(100);
    Batch<TypeParam> batch;
    for (int i = 0; i < 500; ++i) {
      batch.index.push_back(i % 3);
      batch.weight.push_back(TypeParam(i));
    }
    ASSERT_EQ(twin.update(tree, batch), 500);
    EXPECT_EQ(tree.leaf(0), 498);
    EXPECT_EQ(tree.leaf(1), 499);
    EXPECT_EQ(tree.leaf(2), 497);
    EXPECT_EQ(block_sum(tree.data()), 498 + 499 + 497);
    EXPECT_EQ(sum_tree_minimum(tree.data(), tree.layout), 497);
  });
}

TYPED_TEST(SumTreeTest, ABadEntryIsNamedAndNothingIsWritten) {
  constexpr TypeParam kInf = std::numeric_limits<TypeParam>::infinity();
  const TypeParam bad_weights[] = {-1, kInf, -kInf, std::numeric_limits<TypeParam>::quiet_NaN(),
                                   std::numeric_limits<TypeParam>::max()};
  const int64_t bad_indices[] = {-1, 20, int64_t(1) << 40, std::numeric_limits<int64_t>::min(),
                                 std::numeric_limits<int64_t>::max()};
  for_each_twin([&](const auto& twin) {
    Tree<TypeParam> tree(20);
    ASSERT_EQ(twin.update(tree, {{3, 7}, {TypeParam(1), TypeParam(2)}}), 2);
    const auto before = tree.nodes;
    for (const TypeParam weight : bad_weights) {
      EXPECT_EQ(twin.update(tree, {{0, 1, 2, 3}, {1, 1, weight, weight}}), 2);
      EXPECT_EQ(tree.nodes, before);
    }
    for (const int64_t index : bad_indices) {
      EXPECT_EQ(twin.update(tree, {{0, index, 2}, {1, 1, 1}}), 1);
      EXPECT_EQ(tree.nodes, before);
    }
  });
}

TYPED_TEST(SumTreeTest, FindAgreesWithALinearScan) {
  for (const int64_t capacity : kCapacities) {
    for_each_twin([&](const auto& twin) {
      // Small whole numbers, so that sums are exact; a third of them 0.
      Tree<TypeParam> tree(capacity);
      Batch<TypeParam> batch;
      std::vector<int64_t> expected;
      for (int64_t i = 0; i < capacity; ++i) {
        const int64_t weight = capacity == 1 ? 2 : (i * 7) % 3;
        batch.index.push_back(i);
        batch.weight.push_back(TypeParam(weight));
        expected.insert(expected.end(), size_t(weight), i);
      }
      ASSERT_EQ(twin.update(tree, batch), capacity);

      std::vector<double> target;
      for (size_t r = 0; r < expected.size(); ++r) target.push_back(double(r));
      for (const double past : {0.0, 0.5, 1e300, double(INFINITY)}) {
        target.push_back(double(expected.size()) + past);
        expected.push_back(expected.back());
      }
      std::vector<int64_t> found(target.size());
      for (int top = 0; top <= tree.layout.levels; ++top) {
        twin.search(SumTreeSearch<TypeParam>{.nodes = tree.data(),
                                             .layout = tree.layout,
                                             .target = target.data(),
                                             .draws = int64_t(target.size()),
                                             .index = found.data()},
                    top);
        ASSERT_EQ(found, expected) << "capacity " << capacity << ", top levels " << top;
      }
    });
  }
}

// All twins and all ways of searching draw the same leaves, those that the plain walk finds, and
// of these none of weight 0, whatever the weights' magnitudes.
TYPED_TEST(SumTreeTest, DrawsAreTheSameEverywhereAndNeverOfWeightZero) {
  for (const int64_t capacity : kCapacities) {
    std::mt19937_64 random{uint64_t(capacity) + 1};
    Tree<TypeParam> tree(capacity);
    auto batch = random_batch<TypeParam>(capacity, capacity, random);
    batch.weight.back() = 1;
    Cpu{Isa::kBaseline}.update(tree, batch);
    const double total = block_sum(tree.data());
    for (const int64_t n : {1, 15, 16, 17, 500}) {
      for (const bool stratified : {false, true}) {
        const SumTreeDraws draws(42, n, stratified, total);
        for_each_twin([&](const auto& twin) {
          for (int top = 0; top <= tree.layout.levels; ++top) {
            std::vector<int64_t> index(size_t(n), -1);
            std::vector<TypeParam> weight(size_t(n), -1), probability(size_t(n), -1);
            twin.search(SumTreeSearch<TypeParam>{.nodes = tree.data(),
                                                 .layout = tree.layout,
                                                 .seed = 42,
                                                 .draws = n,
                                                 .stratified = stratified,
                                                 .index = index.data(),
                                                 .weight = weight.data(),
                                                 .probability = probability.data()},
                        top);
            for (size_t i = 0; i < size_t(n); ++i) {
              ASSERT_EQ(index[i], find_leaf(tree.data(), tree.layout, draws[int64_t(i)]));
              ASSERT_EQ(weight[i], tree.leaf(index[i]));
              ASSERT_GT(weight[i], 0);
              ASSERT_EQ(probability[i], TypeParam(double(weight[i]) / total));
            }
          }
        });
      }
    }
  }
}

// Rounding can push a draw past what the children add up to; then the last positive one counts.
TYPED_TEST(SumTreeTest, TheVeryLastNumberBelowTheTotalFindsThePositiveLeaf) {
  for (const int64_t capacity : {1, 2, 3, 5, 40, 1000}) {
    for_each_twin([&](const auto& twin) {
      Tree<TypeParam> tree(capacity);
      Batch<TypeParam> batch;
      for (int64_t i = 0; i < (capacity + 1) / 2; ++i) {
        batch.index.push_back(i);
        batch.weight.push_back(TypeParam(0.1) + TypeParam(i) / 7);
      }
      twin.update(tree, batch);
      const double total = block_sum(tree.data());
      const std::vector<double> target = {std::nextafter(total, 0), total,
                                          std::nextafter(total, 1e300)};
      std::vector<int64_t> found(3);
      for (int top = 0; top <= tree.layout.levels; ++top) {
        twin.search(SumTreeSearch<TypeParam>{.nodes = tree.data(),
                                             .layout = tree.layout,
                                             .target = target.data(),
                                             .draws = 3,
                                             .index = found.data()},
                    top);
        for (const int64_t leaf : found) EXPECT_EQ(leaf, (capacity + 1) / 2 - 1);
      }
    });
  }
}

// Without a probability, and with memory to fetch ahead, the same leaves come out.
TYPED_TEST(SumTreeTest, TheProbabilityMayBeLeftOut) {
  Tree<TypeParam> tree(300);
  std::mt19937_64 random(3);
  Cpu{Isa::kBaseline}.update(tree, random_batch<TypeParam>(300, 300, random));
  const std::vector<char> rows(300 * 24);
  constexpr int64_t n = 40;
  std::vector<int64_t> index(n), expected_index(n);
  std::vector<TypeParam> weight(n), expected_weight(n), probability(n);
  SumTreeSearch<TypeParam> search{.nodes = tree.data(),
                                  .layout = tree.layout,
                                  .seed = 5,
                                  .draws = n,
                                  .index = expected_index.data(),
                                  .weight = expected_weight.data(),
                                  .probability = probability.data()};
  Cpu{Isa::kBaseline}.search(search, 1);
  search.index = index.data();
  search.weight = weight.data();
  search.probability = nullptr;
  search.ahead = {.rows = rows.data(), .stride = 24, .bytes = 20};
  for (const Isa isa : isas()) {
    Cpu{isa}.search(search, 1);
    EXPECT_EQ(index, expected_index);
    EXPECT_EQ(weight, expected_weight);
  }
}

TYPED_TEST(SumTreeTest, FillEqualsAnUpdateOfTheSameLeavesBitForBit) {
  for (const int64_t capacity : kCapacities) {
    for (const Isa isa : isas()) {
      SCOPED_TRACE(isa_name(isa));
      std::mt19937_64 random{uint64_t(capacity)};
      Tree<TypeParam> tree(capacity);
      Cpu{isa}.update(tree, random_batch<TypeParam>(capacity, 100, random));
      Tree<TypeParam> twin = tree;
      for (const TypeParam weight : {TypeParam(1.7), TypeParam(0), TypeParam(-0.0)}) {
        const int64_t first = int64_t(random() % uint64_t(capacity));
        for (const int64_t n : {int64_t(0), int64_t(1), capacity - first}) {
          Batch<TypeParam> batch;
          for (int64_t i = 0; i < n; ++i) batch.index.push_back(first + i);
          batch.weight.assign(size_t(n), weight);
          Cpu{isa}.update(twin, batch);
          MF_CALL_ON(isa, sum_tree_fill(tree.data(), tree.layout, first, n, weight));
          ASSERT_EQ(0,
                    std::memcmp(tree.data(), twin.data(), tree.nodes.size() * sizeof(TypeParam)));
        }
      }
    }
  }
}

// Entries of a vector whose end must not be written.
constexpr double kUntouched = -7;
const int64_t kSizes[] = {0, 1, 7, 64, 65, 1000};

template <typename N>
double allowed(double expected) {
  // A number that is not representable in N is off by half an ulp.
  return std::abs(expected) * (1e-12 + (sizeof(N) == 4 ? 0x1p-24 : 0));
}

TYPED_TEST(SumTreeTest, MassesArePowersOfPriorities) {
  std::mt19937_64 random(9);
  std::uniform_real_distribution<double> exponent(-30, 30);
  for (const int64_t n : kSizes) {
    std::vector<double> priority;
    for (int64_t i = 0; i < n; ++i) {
      // Twice as many digits do not fit into a float.
      const double e = exponent(random) / (sizeof(TypeParam) == 4 ? 2 : 1);
      priority.push_back(i % 11 == 5 ? 0 : std::pow(10, e));
    }
    for (const double alpha : {0.0, 0.3, 0.6, 1.0, 1.7, 2.0}) {
      for (const double epsilon : {0.0, 1e-6, 0.5}) {
        for (const Isa isa : isas()) {
          SCOPED_TRACE(isa_name(isa));
          std::vector<TypeParam> mass(size_t(n) + 1, TypeParam(kUntouched));
          MF_CALL_ON(isa, priority_masses(priority.data(), n, epsilon, alpha, mass.data()));
          for (size_t i = 0; i < size_t(n); ++i) {
            const double expected = std::pow(priority[i] + epsilon, alpha);
            ASSERT_NEAR(mass[i], expected, allowed<TypeParam>(expected))
                << priority[i] << " + " << epsilon << " to the " << alpha;
            if (alpha == 0) {
              ASSERT_EQ(mass[i], 1);
            }
            if (alpha == 1) {
              ASSERT_EQ(mass[i], TypeParam(priority[i] + epsilon));
            }
            if (alpha > 0 && priority[i] + epsilon == 0) {
              ASSERT_EQ(mass[i], 0);
            }
          }
          ASSERT_EQ(mass.back(), kUntouched);
        }
      }
    }
  }
}

TYPED_TEST(SumTreeTest, ImportanceWeightsAreRatiosToTheLeastMass) {
  std::mt19937_64 random(10);
  std::uniform_real_distribution<double> exponent(0, 37);  // normal numbers of float
  constexpr TypeParam kLeast = TypeParam(1e-30);
  for (const int64_t n : kSizes) {
    std::vector<TypeParam> mass;
    for (int64_t i = 0; i < n; ++i) {
      mass.push_back(i % 5 == 0 ? kLeast : kLeast * TypeParam(std::pow(10, exponent(random))));
    }
    for (const double beta : {0.0, 0.4, 1.0}) {
      for (const Isa isa : isas()) {
        SCOPED_TRACE(isa_name(isa));
        std::vector<float> weight(size_t(n) + 1, float(kUntouched));
        MF_CALL_ON(isa, importance_weights(mass.data(), n, kLeast, beta, weight.data()));
        for (size_t i = 0; i < size_t(n); ++i) {
          const double expected = std::pow(double(kLeast) / double(mass[i]), beta);
          ASSERT_NEAR(weight[i], expected, allowed<float>(expected)) << mass[i];
          if (mass[i] == kLeast) {
            ASSERT_EQ(weight[i], 1);
          }
        }
        ASSERT_EQ(weight.back(), kUntouched);
      }
    }
  }
}

// The same power wherever it stands in a batch.
TYPED_TEST(SumTreeTest, AMassDoesNotDependOnItsPlace) {
  std::vector<double> priority(100);
  for (size_t i = 0; i < priority.size(); ++i) priority[i] = 0.1 + double(i % 7);
  for (const Isa isa : isas()) {
    std::vector<TypeParam> mass(priority.size());
    MF_CALL_ON(isa, priority_masses(priority.data(), 100, 1e-6, 0.6, mass.data()));
    for (size_t i = 7; i < mass.size(); ++i) ASSERT_EQ(mass[i], mass[i - 7]);
  }
}

TEST(UniformRows, AreTheDrawsInARing) {
  for (const auto& [first, count, capacity] :
       {std::array<int64_t, 3>{0, 1, 1}, {0, 5, 8}, {13, 8, 8}, {1000003, 999999, 1000000}}) {
    for (const int64_t n : kSizes) {
      for (const Isa isa : isas()) {
        SCOPED_TRACE(isa_name(isa));
        std::vector<int64_t> row(size_t(n) + 1, -1), slot(size_t(n) + 1, -1);
        MF_CALL_ON(isa, uniform_rows(77, first, count, capacity, n, row.data(), slot.data()));
        for (size_t i = 0; i < size_t(n); ++i) {
          ASSERT_EQ(row[i], first + int64_t(uniform_draw(77, i) * double(count)));
          ASSERT_GE(row[i], first);
          ASSERT_LT(row[i], first + count);
          ASSERT_EQ(slot[i], row[i] % capacity);
        }
        ASSERT_EQ(row.back(), -1);
        ASSERT_EQ(slot.back(), -1);
      }
    }
  }
}

TYPED_TEST(SumTreeTest, AnEmptyTreeGivesNoLeafOnCuda) {
  Tree<TypeParam> tree(10);
  std::vector<int64_t> index(5);
  std::vector<TypeParam> weight(5, 1), probability(5, 1);
  launch_sum_tree_search(SumTreeSearch<TypeParam>{.nodes = tree.data(),
                                                  .layout = tree.layout,
                                                  .draws = 5,
                                                  .index = index.data(),
                                                  .weight = weight.data(),
                                                  .probability = probability.data()},
                         nullptr);
  EXPECT_EQ(index, std::vector<int64_t>(5, -1));
  EXPECT_EQ(probability, std::vector<TypeParam>(5, 0));
}

TYPED_TEST(SumTreeTest, RebuildOnCudaRefusesWhatIsNoWeight) {
  Tree<TypeParam> tree(10);
  tree.leaf(3) = 2;
  tree.leaf(12) = 1;  // padding
  int64_t status = -1;
  launch_sum_tree_rebuild(tree.data(), tree.layout, &status, nullptr);
  EXPECT_EQ(status, 12);
}

TYPED_TEST(SumTreeTest, SummaryGivesTotalAndLeastPositiveWeight) {
  for (const int64_t capacity : {3, 16, 17, 5000}) {
    Tree<TypeParam> tree(capacity), without(capacity, false);
    double total = -1, least = -1;
    launch_sum_tree_summary(tree.data(), tree.layout, &total, &least, nullptr);
    EXPECT_EQ(total, 0);
    EXPECT_EQ(least, INFINITY);
    const Batch<TypeParam> batch = {{0, capacity - 1}, {3, TypeParam(0.25)}};
    Cpu{Isa::kBaseline}.update(tree, batch);
    Cpu{Isa::kBaseline}.update(without, batch);
    launch_sum_tree_summary(tree.data(), tree.layout, &total, &least, nullptr);
    EXPECT_EQ(total, 3.25);
    EXPECT_EQ(least, 0.25);
    const bool one_block = capacity <= kFanOut;  // there the leaves themselves tell
    EXPECT_EQ(std::isnan(sum_tree_minimum(without.data(), without.layout)), !one_block);
  }
}

TEST(SumTreeLayoutTest, LevelsAreWholeBlocksFromTheRootDown) {
  for (const int64_t capacity :
       {int64_t(1), int64_t(16), int64_t(17), int64_t(100000000), kMaxCapacity}) {
    const SumTreeLayout layout = sum_tree_layout(capacity);
    ASSERT_LE(layout.levels, kMaxLevels);
    EXPECT_EQ(layout.width[0], kFanOut);
    EXPECT_EQ(layout.width[layout.leaf_level()], (capacity + 15) / 16 * 16);
    for (int level = 1; level < layout.levels; ++level) {
      EXPECT_EQ(layout.offset[level], layout.offset[level - 1] + layout.width[level - 1]);
      EXPECT_EQ(layout.width[level - 1], (layout.width[level] / kFanOut + 15) / 16 * 16);
    }
  }
}

TEST(SumTreeDrawsTest, UniformDrawsFillTheUnitIntervalEvenly) {
  std::vector<int> bin(64);
  for (uint64_t i = 0; i < 64000; ++i) {
    const double u = uniform_draw(7, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bin[size_t(u * 64)];
  }
  double chi_square = 0;
  for (const int count : bin) chi_square += (count - 1000.0) * (count - 1000.0) / 1000;
  EXPECT_LT(chi_square, 103.4);  // 63 degrees of freedom, p = 0.001
}

TEST(SumTreeDrawsTest, AStratumHoldsItsDraw) {
  const SumTreeDraws draws(3, 100, true, 50);
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_GE(draws[i], double(i) / 2);
    EXPECT_LT(draws[i], double(i + 1) / 2);
  }
}

}  // namespace
}  // namespace machin_fast

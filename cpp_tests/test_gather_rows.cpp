#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "cuda_on_cpu.h"
#include "ops/gather_rows.h"
#include "rows_testing.h"
#include "twins.h"

namespace machin_fast {
namespace {

using Batch = std::vector<std::vector<char>>;

GatherRows args_of(const Table& table, int64_t rows, const std::vector<int64_t>& index) {
  return {.columns = table.columns.data(),
          .count = int64_t(table.columns.size()),
          .rows = rows,
          .index = index.data(),
          .n = int64_t(index.size())};
}

// Byte by byte. Rows that do not exist are zeros.
Batch by_hand(const Table& table, int64_t rows, const std::vector<int64_t>& index) {
  Batch batch;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    std::vector<char>& column = batch.emplace_back();
    for (const int64_t row : index) {
      for (int64_t k = 0; k < table.sizes()[c]; ++k) {
        const bool exists = row >= 0 && row < rows;
        const auto [owner, at] = exists ? table.place(c, row) : std::pair<size_t, size_t>{};
        column.push_back(exists ? table.memory[owner][at + size_t(k)] : 0);
      }
    }
  }
  return batch;
}

std::vector<int64_t> random_index(int64_t n, int64_t rows) {
  std::mt19937_64 random(3);
  std::vector<int64_t> index;
  for (int64_t i = 0; i < n; ++i) index.push_back(int64_t(random() % uint64_t(rows)));
  return index;
}

// Calls run() on each twin and check(name) after it.
template <typename Cpu, typename Cuda, typename Check>
void on_every_twin(Cpu run_cpu, Cuda run_cuda, Check check) {
  for (const Isa isa : isas()) {
    run_cpu(isa);
    check(isa_name(isa));
  }
  cuda_on_cpu::for_each_order([&] {
    run_cuda();
    check("cuda");
  });
}

class GatherSizes : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Batch, GatherSizes, testing::Values(0, 1, 7, 64, 65, 1000));

TEST_P(GatherSizes, EveryTwinCopiesEveryRowSize) {
  constexpr int64_t kRows = 77;
  const std::vector<int64_t> index = random_index(GetParam(), kRows);
  for (const bool packed : {false, true}) {
    Table table(row_sizes(GetParam()), kRows, GetParam(), packed);
    const GatherRows args = args_of(table, kRows, index);
    const Batch expected = by_hand(table, kRows, index);
    const auto check = [&](const std::string& twin) {
      EXPECT_EQ(table.batch, expected) << table.name(twin);
      for (auto& column : table.batch) std::fill(column.begin(), column.end(), 'x');
    };
    on_every_twin(
        [&](Isa isa) {
          if (args.n > 0) MF_CALL_ON(isa, gather_rows(args, 0, args.n));
        },
        [&] { launch_gather_rows(args, nullptr); }, check);
    for (const Isa isa : isas()) {
      MF_CALL_ON(isa, gather_rows_or_zeros(args));
      check(isa_name(isa));
    }
  }
}

TEST(GatherRows, APieceOfTheBatchLeavesTheRestAlone) {
  constexpr int64_t kRows = 50, kBegin = 90, kEnd = 171;
  const std::vector<int64_t> index = random_index(200, kRows);
  for (const Isa isa : isas()) {
    Table table({16, 8, 1}, kRows, 200, true);
    Batch expected = table.batch;
    const Batch whole = by_hand(table, kRows, index);
    for (size_t c = 0; c < expected.size(); ++c) {
      const int64_t size = table.sizes()[c];
      std::copy(whole[c].begin() + kBegin * size, whole[c].begin() + kEnd * size,
                expected[c].begin() + kBegin * size);
    }
    MF_CALL_ON(isa, gather_rows(args_of(table, kRows, index), kBegin, kEnd));
    EXPECT_EQ(table.batch, expected) << isa_name(isa);
  }
}

TEST(GatherRows, MoreColumnsThanOneLaunchTakes) {
  const std::vector<int64_t> index = random_index(9, 20);
  Table table(std::vector<int64_t>(70, 12), 20, 9, false);
  cuda_on_cpu::for_each_order([&] {
    launch_gather_rows(args_of(table, 20, index), nullptr);
    EXPECT_EQ(table.batch, by_hand(table, 20, index));
  });
}

TEST(GatherRows, TheFirstBadIndexIsFoundWhereverItIs) {
  constexpr int64_t kRows = 10, kSize = 3000;
  using Limits = std::numeric_limits<int64_t>;
  const Table table({4}, kRows, 0, false);
  std::vector<int64_t> index = random_index(kSize, kRows);
  int64_t found = -1;
  const auto expect = [&](int64_t position) {
    const GatherRows args = args_of(table, kRows, index);
    on_every_twin([&](Isa isa) { found = MF_CALL_ON(isa, find_bad_index(args)); },
                  [&] { launch_find_bad_index(args, &found, nullptr); },
                  [&](const std::string& twin) { EXPECT_EQ(found, position) << twin; });
  };
  expect(kSize);
  for (const int64_t position : {2999, 1024, 1023, 0}) {
    for (const int64_t bad : {kRows, int64_t(-1), Limits::max(), Limits::min()}) {
      index[size_t(position)] = bad;
      expect(position);
    }
  }
}

TEST(GatherRows, RowsThatDoNotExistAreZeros) {
  const std::vector<int64_t> index = {2, -1, 0, 3, 1, std::numeric_limits<int64_t>::min()};
  for (const int64_t rows : {3, 0}) {
    for (const bool packed : {false, true}) {
      Table table(row_sizes(6), rows, int64_t(index.size()), packed);
      const GatherRows args = args_of(table, rows, index);
      const Batch expected = by_hand(table, rows, index);
      on_every_twin([&](Isa isa) { MF_CALL_ON(isa, gather_rows_or_zeros(args)); },
                    [&] { launch_gather_rows(args, nullptr); },
                    [&](const std::string& twin) {
                      EXPECT_EQ(table.batch, expected) << table.name(twin);
                      for (auto& column : table.batch) std::fill(column.begin(), column.end(), 'x');
                    });
    }
  }
}

}  // namespace
}  // namespace machin_fast

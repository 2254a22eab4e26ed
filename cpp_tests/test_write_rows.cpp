#include <gtest/gtest.h>

#include "cuda_on_cpu.h"
#include "ops/write_rows.h"
#include "rows_testing.h"
#include "twins.h"

namespace machin_fast {
namespace {

using Memory = std::vector<std::vector<char>>;

// Byte by byte, rows [begin, end) of the batch.
Memory by_hand(const Table& table, const WriteRows& args, int64_t begin, int64_t end) {
  Memory memory = table.memory;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [owner, at] = table.place(c, (args.start + i) % args.rows);
      for (int64_t k = 0; k < table.sizes()[c]; ++k) {
        const RowColumn& column = table.columns[c];
        memory[owner][at + size_t(k)] = column.batch[i * column.batch_stride + k];
      }
    }
  }
  return memory;
}

// Expects rows [begin, end) to be written by each twin, and no other byte; CUDA writes them all.
void expect_written(Table& table, const WriteRows& args, int64_t begin, int64_t end) {
  const Memory before = table.memory;
  const Memory expected = by_hand(table, args, begin, end);
  const auto check = [&](const std::string& twin) {
    EXPECT_EQ(table.memory, expected) << table.name(twin) << ", start " << args.start;
    for (size_t m = 0; m < before.size(); ++m) {  // its memory must stay in place
      std::copy(before[m].begin(), before[m].end(), table.memory[m].begin());
    }
  };
  for (const Isa isa : isas()) {
    MF_CALL_ON(isa, write_rows(args, begin, end));
    check(isa_name(isa));
  }
  if (begin > 0 || end < args.n) return;
  cuda_on_cpu::for_each_order([&] {
    launch_write_rows(args, nullptr);
    check("cuda");
  });
}

WriteRows args_of(const Table& table, int64_t rows, int64_t start, int64_t n) {
  return {.columns = table.columns.data(),
          .count = int64_t(table.columns.size()),
          .rows = rows,
          .start = start,
          .n = n};
}

class WriteSizes : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Batch, WriteSizes, testing::Values(0, 1, 7, 64, 65, 1000));

TEST_P(WriteSizes, EveryTwinWritesEveryRowSizeAndWraps) {
  const int64_t n = GetParam(), rows = n + 3;
  for (const bool packed : {false, true}) {
    Table full(row_sizes(n), n, n, packed), table(row_sizes(n), rows, n, packed);
    if (n > 0) expect_written(full, args_of(full, n, n / 2, n), 0, n);
    for (const int64_t start : {int64_t(0), rows - 1}) {
      expect_written(table, args_of(table, rows, start, n), 0, n);
    }
  }
}

TEST(WriteRows, APieceOfTheBatchLeavesTheRestAlone) {
  for (const bool packed : {false, true}) {
    Table table({16, 8, 1}, 700, 600, packed);
    for (const int64_t start : {0, 1, 300, 699}) {
      for (const auto& [begin, end] : {std::pair{0, 257}, {257, 600}, {399, 402}}) {
        expect_written(table, args_of(table, 700, start, 600), begin, end);
      }
    }
  }
}

// As a column of a matrix has, or a number expanded to n rows.
TEST(WriteRows, RowsOfTheBatchMayLieApartOrBeOneAndTheSame) {
  for (const int64_t stride : {48, 0}) {
    Table table({16}, 90, 3 * 80, false);
    table.columns[0].batch_stride = stride;
    expect_written(table, args_of(table, 90, 70, 80), 0, 80);
  }
}

TEST(WriteRows, MoreColumnsThanOneLaunchTakes) {
  Table table(std::vector<int64_t>(70, 12), 20, 9, false);
  expect_written(table, args_of(table, 20, 15, 9), 0, 9);
}

}  // namespace
}  // namespace machin_fast

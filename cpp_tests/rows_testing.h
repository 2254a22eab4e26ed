// What the tests of gather_rows and write_rows_ share.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "core/rows.h"

namespace machin_fast {

// Each way of copying a row: exact sizes, two overlapping moves, memcpy, more than one line; and
// for CUDA, words of 1, 2, 4, 8 and 16 bytes. The first four are aligned in a record, too.
inline std::vector<int64_t> row_sizes(int64_t n) {
  std::vector<int64_t> sizes = {16, 8, 4, 1, 2, 3, 5, 7, 12, 24, 31, 32, 33, 48, 64, 65, 100};
  if (n < 100) sizes.push_back(1504);
  return sizes;
}

// Columns of random bytes, each in memory of its own or all as fields of one record a row, and
// batches of `n` rows of them. Nothing lies behind the last byte, so that ASan sees each overrun.
class Table {
 public:
  Table(const std::vector<int64_t>& sizes, int64_t rows, int64_t n, bool packed)
      : packed_(packed), sizes_(sizes) {
    int64_t record = 0;
    for (const int64_t size : sizes) record += size;
    const int64_t stride = (record + 16) / 16 * 16;  // leaves a gap between records
    if (packed && rows > 0) fill(memory.emplace_back((rows - 1) * stride + record));
    int64_t offset = 0;
    for (const int64_t size : sizes) {
      if (!packed) fill(memory.emplace_back(rows * size));
      fill(batch.emplace_back(n * size));
      columns.push_back({.rows = memory.empty() ? nullptr : memory.back().data() + offset,
                         .stride = packed ? stride : size,
                         .batch = batch.back().data(),
                         .batch_stride = size,
                         .bytes = size});
      if (packed) offset += size;
    }
  }
  Table(const Table&) = delete;  // `columns` points into the rest

  // Where byte 0 of column c's row r lies: in memory[first], at second.
  std::pair<size_t, size_t> place(size_t c, int64_t r) const {
    const size_t owner = packed_ ? 0 : c;
    return {owner, size_t(columns[c].rows + r * columns[c].stride - memory[owner].data())};
  }

  std::string name(const std::string& twin) const {
    return twin + (packed_ ? ", packed" : ", separate");
  }

  const std::vector<int64_t>& sizes() const { return sizes_; }

  std::vector<std::vector<char>> memory, batch;
  std::vector<RowColumn> columns;

 private:
  void fill(std::vector<char>& bytes) {
    for (char& byte : bytes) byte = char(random_());
  }

  bool packed_;
  std::vector<int64_t> sizes_;
  std::mt19937 random_{7};
};

}  // namespace machin_fast

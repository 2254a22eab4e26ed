// How CUDA copies rows. Included by `.cu` files only.
//
// One launch serves many columns. A column is cut into words, the widest that its addresses allow,
// and blocks take runs of successive words, whatever the length of a row: neighbouring threads
// touch neighbouring words of the batch, and of the column too as far as a row goes.
#pragma once

#include "core/cuda_launch.h"
#include "core/host_device.h"
#include "core/rows.h"

namespace machin_fast {

inline constexpr int kRowThreads = 256;
inline constexpr int kWordsPerThread = 4;  // all are loaded before any is stored
inline constexpr int kWordsPerBlock = kRowThreads * kWordsPerThread;
inline constexpr int kTableColumns = 32;

// Passed by value, as a kernel's parameter.
struct RowTable {
  struct Entry {
    RowColumn column;
    int64_t first_block;
    uint32_t word;   // bytes
    uint32_t words;  // in a row
  };
  Entry entries[kTableColumns];
  int32_t count;
  int64_t n;  // rows of the batch
};

template <typename Word, typename Op>
__device__ void copy_words(const Op& op, const RowTable::Entry& entry, int64_t n) {
  const int64_t first = (int64_t(blockIdx.x) - entry.first_block) * kWordsPerBlock;
  // One long division a block; short ones do for the threads.
  const int64_t first_row = first / entry.words;
  const uint32_t skipped = uint32_t(first % entry.words);

  Word words[kWordsPerThread];
  char* to[kWordsPerThread];
  for (uint32_t k = 0; k < kWordsPerThread; ++k) {
    const uint32_t place = skipped + k * kRowThreads + threadIdx.x;
    const int64_t i = first_row + place / entry.words;
    const int64_t offset = int64_t(place % entry.words) * int64_t(sizeof(Word));
    words[k] = Word{};
    to[k] = nullptr;
    if (i >= n) continue;
    const char* from = op.from(entry.column, i);
    if (from != nullptr) words[k] = *reinterpret_cast<const Word*>(from + offset);
    to[k] = op.to(entry.column, i) + offset;
  }
  for (uint32_t k = 0; k < kWordsPerThread; ++k) {
    if (to[k] != nullptr) *reinterpret_cast<Word*>(to[k]) = words[k];
  }
}

// Copies row op.from(column, i) to row op.to(column, i) for each i < n. From nullptr: zero bytes.
template <typename Op>
__global__ void __launch_bounds__(kRowThreads) copy_rows(Op op, RowTable table) {
  int c = table.count - 1;
  while (int64_t(blockIdx.x) < table.entries[c].first_block) --c;
  const RowTable::Entry& entry = table.entries[c];
  switch (entry.word) {
    case 16:
      return copy_words<uint4>(op, entry, table.n);
    case 8:
      return copy_words<uint64_t>(op, entry, table.n);
    case 4:
      return copy_words<uint32_t>(op, entry, table.n);
    case 2:
      return copy_words<uint16_t>(op, entry, table.n);
    default:
      return copy_words<uint8_t>(op, entry, table.n);
  }
}

// Rows must be shorter than 2 GiB.
template <typename Op>
void launch_copy_rows(const Op& op, const RowColumn* columns, int64_t count, int64_t n,
                      CudaStream stream) {
  for (int64_t first = 0; first < count; first += kTableColumns) {
    RowTable table{};
    table.count = int32_t(count - first < kTableColumns ? count - first : kTableColumns);
    table.n = n;
    int64_t blocks = 0;
    for (int32_t c = 0; c < table.count; ++c) {
      const RowColumn& column = columns[first + c];
      const uint64_t bits = uint64_t(column.rows) | uint64_t(column.batch) |
                            uint64_t(column.stride | column.batch_stride | column.bytes) | 16;
      const uint32_t word = uint32_t(bits & -bits);
      const int64_t words = column.bytes / word;
      table.entries[c] = {column, blocks, word, uint32_t(words)};
      blocks += (n * words + kWordsPerBlock - 1) / kWordsPerBlock;
    }
    MF_LAUNCH(copy_rows<Op>, unsigned(blocks), kRowThreads, stream, op, table);
  }
}

}  // namespace machin_fast

#include "core/rows_cpu.h"
#include "ops/gather_rows.h"

namespace machin_fast::MF_ISA {
namespace {

constexpr int64_t kLine = 64;  // bytes
// Measured best: some KiB ahead, and of a long row the head, as the hardware follows by itself.
constexpr int64_t kAhead = 6144, kHead = 512;
// Rows of a record that are copied column by column: few enough to stay in a near cache.
constexpr int64_t kBlock = 64;

MF_HD int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

// Fetches the rows of a record ahead of their use.
class Prefetch {
 public:
  Prefetch(const GatherRows& args, const RowColumn& first, int64_t bytes, int64_t end)
      : index_(args.index), rows_(first.rows), stride_(first.stride), last_(end - 1) {
    ahead_ = clamp(kAhead / bytes, 1, 32);
    head_ = bytes < kHead ? bytes : kHead;
  }

  MF_HD void operator()(int64_t i) const {
    const int64_t row = index_[i + ahead_ < last_ ? i + ahead_ : last_];
    const char* from = rows_ + row * stride_;
    for (int64_t at = 0; at < head_; at += kLine) __builtin_prefetch(from + at);
    __builtin_prefetch(from + head_ - 1);
  }

 private:
  const int64_t* index_;
  const char* rows_;
  int64_t stride_, last_, ahead_, head_;
};

struct NoPrefetch {
  MF_HD void operator()(int64_t) const {}
};

template <typename Before>
MF_HD void gather_column(const GatherRows& args, const RowColumn& column, int64_t begin,
                         int64_t end, const Before& before) {
  const int64_t* index = args.index;
  const RowColumn c = column;  // a copy stays in registers whatever is written
  with_row_copy(c.bytes, [&](const auto& copy) {
    for (int64_t i = begin; i < end; ++i) {
      before(i);
      copy(c.batch + i * c.batch_stride, c.rows + index[i] * c.stride);
    }
  });
}

// From the first byte of column `first` to behind the last of column `last`, in one row.
MF_HD int64_t record_bytes(const GatherRows& args, int64_t first, int64_t last) {
  return args.columns[last].rows + args.columns[last].bytes - args.columns[first].rows;
}

// Columns [first, end_column) are fields of one record.
void gather_record(const GatherRows& args, int64_t first, int64_t end_column, int64_t begin,
                   int64_t end) {
  const Prefetch prefetch(args, args.columns[first], record_bytes(args, first, end_column - 1),
                          end);
  const int64_t block = end_column - first > 1 ? kBlock : end - begin;
  for (int64_t b = begin; b < end; b += block) {
    const int64_t block_end = b + block < end ? b + block : end;
    gather_column(args, args.columns[first], b, block_end, prefetch);
    for (int64_t c = first + 1; c < end_column; ++c) {
      gather_column(args, args.columns[c], b, block_end, NoPrefetch{});
    }
  }
}

}  // namespace

int64_t find_bad_index(const GatherRows& args) {
  constexpr int64_t kChunk = 1024;
  for (int64_t begin = 0; begin < args.n; begin += kChunk) {
    const int64_t end = begin + kChunk < args.n ? begin + kChunk : args.n;
    bool all_good = true;  // of the whole chunk, so that the loop vectorises
    for (int64_t i = begin; i < end; ++i) all_good &= has_row(args.index[i], args.rows);
    if (all_good) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (!has_row(args.index[i], args.rows)) return i;
    }
  }
  return args.n;
}

void gather_rows(const GatherRows& args, int64_t begin, int64_t end) {
  for (int64_t first = 0, next; first < args.count; first = next) {
    const RowColumn& record = args.columns[first];
    const int64_t reach = record.stride < kHead ? record.stride : kHead;
    next = first + 1;
    while (next < args.count && args.columns[next].stride == record.stride &&
           record_bytes(args, first, next) <= reach) {
      ++next;
    }
    gather_record(args, first, next, begin, end);
  }
}

void gather_rows_or_zeros(const GatherRows& args) {
  for (int64_t c = 0; c < args.count; ++c) {
    const RowColumn& column = args.columns[c];
    for (int64_t i = 0; i < args.n; ++i) {
      char* to = column.batch + i * column.batch_stride;
      if (has_row(args.index[i], args.rows)) {
        std::memcpy(to, column.rows + args.index[i] * column.stride, size_t(column.bytes));
      } else {
        std::memset(to, 0, size_t(column.bytes));
      }
    }
  }
}

}  // namespace machin_fast::MF_ISA

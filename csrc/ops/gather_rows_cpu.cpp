#include "core/rows_cpu.h"
#include "ops/gather_rows.h"

namespace machin_fast::MF_ISA {
namespace {

constexpr int64_t kLine = 64;  // bytes
// Rows of a record that are copied column by column: few enough to stay in L1.
constexpr int64_t kBlock = 64;

MF_HD int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

// Fetches the rows of a record ahead of their use.
class Prefetch {
 public:
  Prefetch(const GatherRows& args, const RowColumn& first, int64_t record_bytes, int64_t end)
      : index_(args.index), rows_(first.rows), stride_(first.stride), last_(end - 1) {
    // Measured best: some KiB ahead. Beyond a row's head, the hardware follows by itself.
    constexpr int64_t kAhead = 6144, kHead = 1024;
    ahead_ = clamp(kAhead / record_bytes, 2, 32);
    head_ = record_bytes < kHead ? record_bytes : kHead;
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
  const RowColumn c = column;
  with_row_copy(c.bytes, [&](const auto& copy) {
    for (int64_t i = begin; i < end; ++i) {
      before(i);
      copy(c.batch + i * c.batch_stride, c.rows + index[i] * c.stride);
    }
  });
}

// Columns [first, last) are fields of one record.
void gather_record(const GatherRows& args, int64_t first, int64_t last, int64_t begin,
                   int64_t end) {
  int64_t record_bytes = 0;
  for (int64_t c = first; c < last; ++c) {
    const int64_t field_end =
        args.columns[c].rows + args.columns[c].bytes - args.columns[first].rows;
    if (field_end > record_bytes) record_bytes = field_end;
  }
  const Prefetch prefetch(args, args.columns[first], record_bytes, end);
  const int64_t block = last - first > 1 ? kBlock : end - begin;
  for (int64_t b = begin; b < end; b += block) {
    const int64_t block_end = b + block < end ? b + block : end;
    gather_column(args, args.columns[first], b, block_end, prefetch);
    for (int64_t c = first + 1; c < last; ++c) {
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
    for (int64_t i = begin; !all_good; ++i) {
      if (!has_row(args.index[i], args.rows)) return i;
    }
  }
  return args.n;
}

void gather_rows(const GatherRows& args, int64_t begin, int64_t end) {
  for (int64_t first = 0, last; first < args.count; first = last) {
    const RowColumn& record = args.columns[first];
    last = first + 1;
    while (last < args.count && args.columns[last].stride == record.stride &&
           args.columns[last].rows - record.rows < record.stride) {
      ++last;
    }
    gather_record(args, first, last, begin, end);
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

// The memory that an array lies in, to refuse arguments that share some.
#pragma once

#include "core/array.h"

namespace machin_fast {

struct Span {
  const char* begin;
  const char* end;
};

// From the first byte to behind the last. Gaps count, as between the rows of a field of records.
inline Span span_of(const Array& x) {
  if (x.numel == 0) return {nullptr, nullptr};
  int64_t last = 0;
  for (int64_t d = 0; d < x.dim; ++d) last += (x.shape[d] - 1) * x.stride[d];
  const char* begin = x.as<const char>();
  return {begin, begin + (last + 1) * x.itemsize};
}

inline bool overlap(const Span& x, const Span& y) {
  return x.begin < y.end && y.begin < x.end;
}

}  // namespace machin_fast

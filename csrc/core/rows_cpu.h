// How the CPU copies rows. Included by `*_cpu.cpp` only.
#pragma once

#include <cstring>

#include "core/host_device.h"
#include "core/isa.h"
#include "core/rows.h"

namespace machin_fast::MF_ISA {
namespace {

template <int kBytes>
struct CopyExactly {
  MF_HD void operator()(char* to, const char* from) const { std::memcpy(to, from, kBytes); }
};

// kBytes to 2 * kBytes, in two moves that overlap.
template <int kBytes>
struct CopyTwice {
  int64_t bytes;
  MF_HD void operator()(char* to, const char* from) const {
    std::memcpy(to, from, kBytes);
    std::memcpy(to + bytes - kBytes, from + bytes - kBytes, kBytes);
  }
};

struct CopyMany {
  int64_t bytes;
  MF_HD void operator()(char* to, const char* from) const { std::memcpy(to, from, size_t(bytes)); }
};

// Calls loop(copy), where copy(to, from) copies a row: small ones without a call, which would cost
// more than they do.
template <typename Loop>
MF_HD void with_row_copy(int64_t bytes, const Loop& loop) {
  switch (bytes) {
    case 1:
      return loop(CopyExactly<1>{});
    case 2:
      return loop(CopyExactly<2>{});
    case 4:
      return loop(CopyExactly<4>{});
    case 8:
      return loop(CopyExactly<8>{});
    case 16:
      return loop(CopyExactly<16>{});
    case 32:
      return loop(CopyExactly<32>{});
  }
  if (bytes < 4) return loop(CopyTwice<2>{bytes});
  if (bytes < 8) return loop(CopyTwice<4>{bytes});
  if (bytes < 16) return loop(CopyTwice<8>{bytes});
  if (bytes < 32) return loop(CopyTwice<16>{bytes});
  if (bytes <= 64) return loop(CopyTwice<32>{bytes});
  return loop(CopyMany{bytes});
}

}  // namespace
}  // namespace machin_fast::MF_ISA

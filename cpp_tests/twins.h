// The instruction sets that tests go through.
#pragma once

#include <vector>

#include "core/isa.h"

namespace machin_fast {

// Those of this processor, or up to MACHIN_FAST_ISA.
inline std::vector<Isa> isas() {
  std::vector<Isa> found;
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= cpu_isa()) found.push_back(isa);
  }
  return found;
}

}  // namespace machin_fast

// MF_CALL_ISA for a set that the test names.
#ifdef MF_ALL_ISAS
#define MF_CALL_ON(isa, ...)                         \
  [&] {                                              \
    switch (isa) {                                   \
      case ::machin_fast::Isa::kAvx512:              \
        return ::machin_fast::avx512::__VA_ARGS__;   \
      case ::machin_fast::Isa::kAvx2:                \
        return ::machin_fast::avx2::__VA_ARGS__;     \
      default:                                       \
        return ::machin_fast::baseline::__VA_ARGS__; \
    }                                                \
  }()
#else
#define MF_CALL_ON(isa, ...) ((void)(isa), ::machin_fast::baseline::__VA_ARGS__)
#endif

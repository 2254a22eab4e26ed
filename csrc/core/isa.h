// CPU kernels (`*_cpu.cpp`) are compiled once per instruction set, each in a namespace of its own,
// and the best one that this processor has is called. To keep code of a higher set from being
// linked into a lower one, such a file defines nothing shared: MF_HD functions are always inlined,
// helpers stand in anonymous namespaces, and only what MF_PER_ISA declares is visible.
#pragma once

#include <cstdint>

namespace machin_fast {

enum class Isa { kBaseline, kAvx2, kAvx512 };

// The set in use: the best of this processor, or less if MACHIN_FAST_ISA names one
// (baseline, avx2, avx512). Decided once.
Isa cpu_isa();
const char* isa_name(Isa isa);

}  // namespace machin_fast

// MF_PER_ISA declares a function for each set, MF_CALL_ON calls the one of `isa`, MF_CALL_ISA that
// of the set in use.
#ifdef MF_ALL_ISAS  // set by CMake on x86-64
#define MF_PER_ISA(...) \
  namespace baseline {  \
  __VA_ARGS__;          \
  }                     \
  namespace avx2 {      \
  __VA_ARGS__;          \
  }                     \
  namespace avx512 {    \
  __VA_ARGS__;          \
  }
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
#define MF_PER_ISA(...) \
  namespace baseline {  \
  __VA_ARGS__;          \
  }
#define MF_CALL_ON(isa, ...) ((void)(isa), ::machin_fast::baseline::__VA_ARGS__)
#endif
#define MF_CALL_ISA(...) MF_CALL_ON(::machin_fast::cpu_isa(), __VA_ARGS__)
#ifndef MF_ISA
#define MF_ISA baseline
#endif

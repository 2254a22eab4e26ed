#include "core/isa.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace machin_fast {

namespace {

Isa best_of_processor() {
#ifdef MF_ALL_ISAS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) return Isa::kAvx512;
  if (avx2) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

Isa decide() {
  const Isa best = best_of_processor();
  const char* wanted = std::getenv("MACHIN_FAST_ISA");
  if (wanted == nullptr) return best;
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2}) {
    if (std::strcmp(wanted, isa_name(isa)) == 0 && isa < best) return isa;
  }
  return best;
}

}  // namespace

Isa cpu_isa() {
  static const Isa isa = decide();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace machin_fast

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

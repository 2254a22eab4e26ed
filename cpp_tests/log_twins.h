// core/log.h at each instruction set, for test_log.cpp.
#pragma once

#include "core/isa.h"

namespace machin_fast {

// y[i] = log_lanes(x[i]): in packs, the rest one by one; or all one by one.
MF_PER_ISA(void log_packs(const double* x, double* y, int64_t n))
MF_PER_ISA(void log_scalars(const double* x, double* y, int64_t n))

}  // namespace machin_fast

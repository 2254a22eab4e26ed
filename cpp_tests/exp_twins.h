// core/exp.h at each instruction set, for test_exp.cpp.
#pragma once

#include "core/isa.h"

namespace machin_fast {

// y[i] = exp_lanes(x[i]): in packs, the rest one by one; or all one by one.
MF_PER_ISA(void exp_packs(const float* x, float* y, int64_t n))
MF_PER_ISA(void exp_packs(const double* x, double* y, int64_t n))
MF_PER_ISA(void exp_scalars(const float* x, float* y, int64_t n))
MF_PER_ISA(void exp_scalars(const double* x, double* y, int64_t n))

}  // namespace machin_fast

#include "exp_twins.h"

#include "core/exp.h"

namespace machin_fast::MF_ISA {
namespace {

template <typename T, typename N>
int64_t exp_of(const N* x, N* y, int64_t begin, int64_t n) {
  int64_t i = begin;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store<T>(y, i, exp_lanes(load<T>(x, i)));
  return i;
}

}  // namespace

void exp_packs(const float* x, float* y, int64_t n) {
  exp_of<float>(x, y, exp_of<Vec<float>>(x, y, 0, n), n);
}
void exp_packs(const double* x, double* y, int64_t n) {
  exp_of<double>(x, y, exp_of<Vec<double>>(x, y, 0, n), n);
}
void exp_scalars(const float* x, float* y, int64_t n) {
  exp_of<float>(x, y, 0, n);
}
void exp_scalars(const double* x, double* y, int64_t n) {
  exp_of<double>(x, y, 0, n);
}

}  // namespace machin_fast::MF_ISA

#include "log_twins.h"

#include "core/log.h"

namespace machin_fast::MF_ISA {
namespace {

template <typename T>
int64_t log_of(const double* x, double* y, int64_t begin, int64_t n) {
  int64_t i = begin;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store<T>(y, i, log_lanes(load<T>(x, i)));
  return i;
}

}  // namespace

void log_packs(const double* x, double* y, int64_t n) {
  log_of<double>(x, y, log_of<Vec<double>>(x, y, 0, n), n);
}
void log_scalars(const double* x, double* y, int64_t n) {
  log_of<double>(x, y, 0, n);
}

}  // namespace machin_fast::MF_ISA

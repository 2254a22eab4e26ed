// What all return estimators share: their arguments and how a recurrence runs on them.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "core/linear_recurrence.h"
#include "core/span.h"
#include "ops/tensor.h"

namespace machin_fast {

// Checks the arguments of a return estimator against the first, the reward (or its gradient):
// [steps, envs] time-major, or flat [N] with bounds. Keeps copies of what is not contiguous.
class RolloutArguments {
 public:
  RolloutArguments(const char* op, const char* name, const Tensor& first,
                   const std::optional<Tensor>& bounds);
  RolloutArguments(const RolloutArguments&) = delete;

  const Array& first() const { return first_; }
  Array number(const char* name, const Tensor& x) { return take(name, x, first_.dtype); }
  Array flag(const char* name, const Tensor& x) { return take(name, x, DType::kBool); }
  // Taken after all inputs: an output shares memory with no other argument, as a recurrence may
  // read what stands behind the row that it writes.
  Array output(const char* name, const Tensor& x) { return output(name, x, first_.dtype); }
  Array output(const char* name, const Tensor& x, DType dtype);

  const char* op() const { return op_; }
  const RolloutLayout& layout() const { return layout_; }

 private:
  struct Memory {
    const char* argument;
    Span span;
  };
  static constexpr int kMostArguments = 16;

  Array take(const char* name, const Tensor& x, DType dtype);
  Array keep(const char* name, const Tensor& x);
  void note(const char* name, const Array& x) { memory_[count_++] = {name, span_of(x)}; }

  const char* op_;
  std::vector<Tensor> copies_;
  Memory memory_[kMostArguments];
  int count_ = 0;
  Array first_;
  int64_t whole_[2];
  RolloutLayout layout_;
};

// A fraction such as a discount. Above 1 returns would grow with the horizon.
void check_fraction(const char* op, const char* name, double x);

// Rows that a thread should have at least. Measured with two threads: gae of 2^18 rows gains
// nothing (75 us), of 2^20 rows it takes 430 us instead of 930.
inline constexpr int64_t kRowsPerThread = int64_t(1) << 18;
// Envs are dealt out in cache lines of float, so that threads do not share one.
inline constexpr int64_t kEnvsPerLine = 16;

template <typename Op>
void run_recurrence(RolloutArguments& in, const Op& op) {
  if (in.first().numel == 0) return;
  const RolloutLayout& layout = in.layout();
  if (in.first().is_cuda()) {
    on_cuda(in.op(), in.first(), [&](CudaStream stream) {
      const int64_t bytes = recurrence_scratch<Op>(layout);
      const Tensor scratch = empty(&bytes, 1, DType::kUInt8, in.first());
      launch_recurrence(op, layout, scratch.data_ptr(), stream);
    });
  } else if (layout.bounds != nullptr) {
    const int64_t mean_length = layout.steps / layout.segments + 1;
    parallel_for(
        layout.segments, kRowsPerThread / mean_length + 1,
        [&](int64_t begin, int64_t end) { MF_CALL_ISA(recur_flat(op, layout, begin, end)); });
  } else {
    const int64_t lines = (layout.envs + kEnvsPerLine - 1) / kEnvsPerLine;
    parallel_for(lines, kRowsPerThread / (layout.steps * kEnvsPerLine) + 1,
                 [&](int64_t begin, int64_t end) {
                   MF_CALL_ISA(recur_columns(op, layout, begin * kEnvsPerLine,
                                             std::min(end * kEnvsPerLine, layout.envs)));
                 });
  }
}

}  // namespace machin_fast

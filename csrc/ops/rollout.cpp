#include "ops/rollout.h"

namespace machin_fast {

RolloutArguments::RolloutArguments(const char* op, const char* name, const Tensor& first,
                                   const std::optional<Tensor>& bounds)
    : op_(op), first_(keep(name, first)) {
  MF_CHECK(first_.dim == 1 || first_.dim == 2, op, ": ", name,
           " must be [steps, envs], or flat [N], got shape ", shape_text(first_));
  check_floating(op, name, first_);
  MF_CHECK(!bounds || first_.dim == 1, op, ": bounds must come with flat [N] tensors, got ", name,
           " of shape ", shape_text(first_));
  layout_ = {.steps = first_.shape[0], .envs = first_.dim == 2 ? first_.shape[1] : 1};
  if (layout_.envs != 1) return;

  // One column is one flat segment.
  whole_[0] = 0;
  whole_[1] = layout_.steps;
  layout_.bounds = whole_;
  if (!bounds) return;

  const Array b = keep("bounds", *bounds);
  check_dtype(op, "bounds", b, DType::kInt64);
  check_dim(op, "bounds", b, 1, "[segments + 1]");
  MF_CHECK(b.device == DeviceType::kCpu, op, ": bounds must be on the CPU, got ", device_text(b));
  MF_CHECK(b.numel >= 2 || (b.numel == 1 && layout_.steps == 0), op,
           ": bounds must have at least 2 entries, got ", b.numel);
  const int64_t* row = b.as<const int64_t>();
  MF_CHECK(row[0] == 0, op, ": bounds must start with 0, got ", row[0]);
  for (int64_t s = 1; s < b.numel; ++s) {
    MF_CHECK(row[s] >= row[s - 1], op, ": bounds must not decrease, got ", row[s], " after ",
             row[s - 1], " at position ", s);
  }
  MF_CHECK(row[b.numel - 1] == layout_.steps, op, ": bounds must end with ", layout_.steps,
           ", got ", row[b.numel - 1]);
  layout_.bounds = row;
  layout_.segments = b.numel - 1;
}

Array RolloutArguments::keep(const char* name, const Tensor& x) {
  if (!x.is_contiguous()) {
    copies_.push_back(torch::stable::contiguous(x));
    return view(copies_.back());
  }
  const Array array = view(x);
  note(name, array);
  return array;
}

Array RolloutArguments::take(const char* name, const Tensor& x, DType dtype) {
  check_like(op_, name, view(x), first_, dtype);
  return keep(name, x);
}

Array RolloutArguments::output(const char* name, const Tensor& x, DType dtype) {
  const Array out = view(x);
  check_out(op_, name, out, first_, dtype);
  for (int i = 0; i < count_; ++i) {
    MF_CHECK(!overlap(span_of(out), memory_[i].span), op_, ": ", name,
             " must not share memory with ", memory_[i].argument);
  }
  note(name, out);
  return out;
}

void check_fraction(const char* op, const char* name, double x) {
  check_between(op, name, x, 0, 1);
}

}  // namespace machin_fast

#include "ops/categorical_projection.h"

#include <cmath>

#include "core/span.h"
#include "ops/tensor.h"

namespace machin_fast {
namespace {

constexpr const char* kOp = "categorical_projection";

// Atoms that a thread should have at least: about what it does while another wakes up.
constexpr int64_t kAtomsPerThread = int64_t(1) << 14;

void check_row_number(const char* name, const Array& x, const Array& probability) {
  MF_CHECK(x.dim == 1 && x.shape[0] == probability.shape[0], kOp, ": ", name, " must have shape [",
           probability.shape[0], "], got ", shape_text(x));
  check_dtype(kOp, name, x, probability.dtype);
  check_device(kOp, name, x, probability);
}

template <typename N>
void run(const CategoricalProjection<N>& args, const Array& like) {
  if (like.is_cuda()) {
    on_cuda(kOp, like, [&](CudaStream stream) { launch_categorical_projection(args, stream); });
  } else {
    parallel_for(args.batch, kAtomsPerThread / args.atoms + 1,
                 [&](int64_t begin, int64_t end) { MF_CALL_ISA(project_rows(args, begin, end)); });
  }
}

void categorical_projection_out(const Tensor& next_probability, const Tensor& reward,
                                const Tensor& discount, double v_min, double v_max,
                                const Tensor& out) {
  const Array p = view(next_probability), r = view(reward), d = view(discount), to = view(out);
  check_floating(kOp, "next_probability", p);
  check_dim(kOp, "next_probability", p, 2, "[batch, atoms]");
  MF_CHECK(p.shape[1] >= 2 && p.shape[1] <= kMaxAtoms, kOp, ": next_probability must have 2 to ",
           kMaxAtoms, " atoms, got ", p.shape[1]);
  check_row_number("reward", r, p);
  check_row_number("discount", d, p);
  check_out(kOp, "out", to, p, p.dtype);
  for (const auto& [name, x] : {std::pair{"next_probability", p}, {"reward", r}, {"discount", d}}) {
    MF_CHECK(!overlap(span_of(to), span_of(x)), kOp, ": out must not share memory with ", name);
  }

  const Tensor dense_p = dense(next_probability);
  const Tensor dense_r = dense(reward);
  const Tensor dense_d = dense(discount);
  dispatch_floating(p.dtype, [&]<typename N>() {
    const N low = N(v_min), high = N(v_max);
    MF_CHECK(std::isfinite(low), kOp, ": v_min must be finite, got ", v_min);
    MF_CHECK(high > low && std::isfinite(high - low), kOp, ": v_max must be above v_min = ", v_min,
             " and finite, got ", v_max);
    run(CategoricalProjection<N>{.next_probability = view(dense_p).as<const N>(),
                                 .reward = view(dense_r).as<const N>(),
                                 .discount = view(dense_d).as<const N>(),
                                 .out = to.as<N>(),
                                 .batch = p.shape[0],
                                 .atoms = p.shape[1],
                                 .v_min = low,
                                 .spacing = (high - low) / N(p.shape[1] - 1)},
        to);
  });
}

Tensor categorical_projection(const Tensor& next_probability, const Tensor& reward,
                              const Tensor& discount, double v_min, double v_max) {
  const Array like = view(next_probability);
  const Tensor out = empty_like(like, like.dtype);
  categorical_projection_out(next_probability, reward, discount, v_min, v_max, out);
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "categorical_projection(Tensor next_probability, Tensor reward, Tensor discount, "
      "float v_min, float v_max) -> Tensor");
  m.def(
      "categorical_projection.out(Tensor next_probability, Tensor reward, Tensor discount, "
      "float v_min, float v_max, *, Tensor(a!) out) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("categorical_projection", TORCH_BOX(&categorical_projection));
  m.impl("categorical_projection.out", TORCH_BOX(&categorical_projection_out));
}

}  // namespace machin_fast

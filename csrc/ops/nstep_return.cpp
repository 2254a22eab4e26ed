#include "ops/nstep_return.h"

#include <algorithm>

#include "ops/rollout.h"

namespace machin_fast {
namespace {

template <typename N>
void run_nstep(const RolloutArguments& in, const NstepArgs<N>& args) {
  const RolloutLayout& layout = in.layout();
  if (in.first().numel == 0) return;
  if (in.first().is_cuda()) {
    on_cuda(in.op(), in.first(), [&](CudaStream stream) {
      const int64_t size = layout.segments + 1;
      const Tensor scratch = empty(&size, 1, DType::kInt64, in.first());
      launch_nstep(args, layout, view(scratch).as<int64_t>(), stream);
    });
  } else {
    parallel_for(layout.steps, kRowsPerThread / layout.envs + 1, [&](int64_t begin, int64_t end) {
      MF_CALL_ISA(nstep_steps(args, layout, begin, end));
    });
  }
}

void nstep_return_out(const Tensor& reward, const Tensor& terminated, const Tensor& truncated,
                      const std::optional<Tensor>& bounds, double gamma, int64_t n,
                      const Tensor& reward_sum, const Tensor& discount, const Tensor& last_row) {
  RolloutArguments in("nstep_return", "reward", reward, bounds);
  const Array end = in.flag("terminated", terminated);
  const Array cut = in.flag("truncated", truncated);
  const Array sum = in.output("reward_sum", reward_sum);
  const Array power = in.output("discount", discount);
  const Array row = in.output("last_row", last_row, DType::kInt64);
  check_fraction("nstep_return", "gamma", gamma);
  MF_CHECK(n >= 1, "nstep_return: n must be at least 1, got ", n);
  const int64_t most = std::min(n, in.layout().steps);  // no window is longer
  constexpr int64_t kCountable = int64_t(1) << 24;      // steps are counted in the dtype of reward
  MF_CHECK(most <= kCountable, "nstep_return: n must be at most ", kCountable, ", got ", n);

  dispatch_floating(in.first().dtype, [&]<typename N>() {
    run_nstep(in, NstepArgs<N>{.reward = in.first().as<const N>(),
                               .terminated = end.as<const bool>(),
                               .truncated = cut.as<const bool>(),
                               .reward_sum = sum.as<N>(),
                               .discount = power.as<N>(),
                               .last_row = row.as<int64_t>(),
                               .gamma = N(gamma),
                               .n = most});
  });
}

std::tuple<Tensor, Tensor, Tensor> nstep_return(const Tensor& reward, const Tensor& terminated,
                                                const Tensor& truncated,
                                                const std::optional<Tensor>& bounds, double gamma,
                                                int64_t n) {
  const Array like = view(reward);
  const Tensor reward_sum = empty_like(like, like.dtype);
  const Tensor discount = empty_like(like, like.dtype);
  const Tensor last_row = empty_like(like, DType::kInt64);
  nstep_return_out(reward, terminated, truncated, bounds, gamma, n, reward_sum, discount, last_row);
  return {reward_sum, discount, last_row};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "nstep_return(Tensor reward, Tensor terminated, Tensor truncated, Tensor? bounds, "
      "float gamma, int n) -> (Tensor, Tensor, Tensor)");
  m.def(
      "nstep_return.out(Tensor reward, Tensor terminated, Tensor truncated, Tensor? bounds, "
      "float gamma, int n, *, Tensor(a!) reward_sum, Tensor(b!) discount, Tensor(c!) last_row) "
      "-> ()");
}

MF_IMPLEMENT(m) {
  m.impl("nstep_return", TORCH_BOX(&nstep_return));
  m.impl("nstep_return.out", TORCH_BOX(&nstep_return_out));
}

}  // namespace machin_fast

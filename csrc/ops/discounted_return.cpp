#include "ops/discounted_return.h"

#include "ops/rollout.h"

namespace machin_fast {
namespace {

void discounted_return_out(const Tensor& reward, const std::optional<Tensor>& next_value,
                           const Tensor& terminated, const Tensor& truncated,
                           const std::optional<Tensor>& bounds, double gamma,
                           const Tensor& result) {
  RolloutArguments in("discounted_return", "reward", reward, bounds);
  const void* next = next_value ? in.number("next_value", *next_value).data : nullptr;
  const Array end = in.flag("terminated", terminated);
  const Array cut = in.flag("truncated", truncated);
  const Array out = in.output("result", result);
  check_fraction("discounted_return", "gamma", gamma);

  dispatch_floating(in.first().dtype, [&]<typename N>() {
    run_recurrence(in, DiscountedReturn<N>{.reward = in.first().as<const N>(),
                                           .next_value = static_cast<const N*>(next),
                                           .terminated = end.as<const bool>(),
                                           .truncated = cut.as<const bool>(),
                                           .result = out.as<N>(),
                                           .gamma = N(gamma)});
  });
}

Tensor discounted_return(const Tensor& reward, const std::optional<Tensor>& next_value,
                         const Tensor& terminated, const Tensor& truncated,
                         const std::optional<Tensor>& bounds, double gamma) {
  const Array like = view(reward);
  const Tensor result = empty_like(like, like.dtype);
  discounted_return_out(reward, next_value, terminated, truncated, bounds, gamma, result);
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "discounted_return(Tensor reward, Tensor? next_value, Tensor terminated, "
      "Tensor truncated, Tensor? bounds, float gamma) -> Tensor");
  m.def(
      "discounted_return.out(Tensor reward, Tensor? next_value, Tensor terminated, "
      "Tensor truncated, Tensor? bounds, float gamma, *, Tensor(a!) result) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("discounted_return", TORCH_BOX(&discounted_return));
  m.impl("discounted_return.out", TORCH_BOX(&discounted_return_out));
}

}  // namespace machin_fast

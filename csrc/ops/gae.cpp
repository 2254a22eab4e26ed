#include "ops/gae.h"

#include "ops/rollout.h"

namespace machin_fast {
namespace {

void gae_out(const Tensor& reward, const Tensor& value, const Tensor& next_value,
             const Tensor& terminated, const Tensor& truncated, const std::optional<Tensor>& bounds,
             double gamma, double lam, const Tensor& advantage, const Tensor& value_target) {
  RolloutArguments in("gae", "reward", reward, bounds);
  const Array v = in.number("value", value);
  const Array next = in.number("next_value", next_value);
  const Array end = in.flag("terminated", terminated);
  const Array cut = in.flag("truncated", truncated);
  const Array out = in.output("advantage", advantage);
  const Array target = in.output("value_target", value_target);
  check_fraction("gae", "gamma", gamma);
  check_fraction("gae", "lam", lam);

  dispatch_floating(in.first().dtype, [&]<typename N>() {
    run_recurrence(in, Gae<N>{.reward = in.first().as<const N>(),
                              .value = v.as<const N>(),
                              .next_value = next.as<const N>(),
                              .terminated = end.as<const bool>(),
                              .truncated = cut.as<const bool>(),
                              .advantage = out.as<N>(),
                              .value_target = target.as<N>(),
                              .gamma = N(gamma),
                              .lambda = N(lam)});
  });
}

std::tuple<Tensor, Tensor> gae(const Tensor& reward, const Tensor& value, const Tensor& next_value,
                               const Tensor& terminated, const Tensor& truncated,
                               const std::optional<Tensor>& bounds, double gamma, double lam) {
  const Array like = view(reward);
  const Tensor advantage = empty_like(like, like.dtype);
  const Tensor value_target = empty_like(like, like.dtype);
  gae_out(reward, value, next_value, terminated, truncated, bounds, gamma, lam, advantage,
          value_target);
  return {advantage, value_target};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "gae(Tensor reward, Tensor value, Tensor next_value, Tensor terminated, Tensor truncated, "
      "Tensor? bounds, float gamma, float lam) -> (Tensor, Tensor)");
  m.def(
      "gae.out(Tensor reward, Tensor value, Tensor next_value, Tensor terminated, "
      "Tensor truncated, Tensor? bounds, float gamma, float lam, *, Tensor(a!) advantage, "
      "Tensor(b!) value_target) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("gae", TORCH_BOX(&gae));
  m.impl("gae.out", TORCH_BOX(&gae_out));
}

}  // namespace machin_fast

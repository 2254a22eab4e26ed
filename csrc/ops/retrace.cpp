#include "ops/retrace.h"

#include "ops/rollout.h"

namespace machin_fast {
namespace {

void retrace_out(const Tensor& behavior_log_prob, const Tensor& target_log_prob,
                 const Tensor& reward, const Tensor& value, const Tensor& next_value,
                 const Tensor& terminated, const Tensor& truncated,
                 const std::optional<Tensor>& bounds, double gamma, double lam,
                 const Tensor& target) {
  RolloutArguments in("retrace", "reward", reward, bounds);
  const Array behavior = in.number("behavior_log_prob", behavior_log_prob);
  const Array target_policy = in.number("target_log_prob", target_log_prob);
  const Array q = in.number("value", value);
  const Array next = in.number("next_value", next_value);
  const Array end = in.flag("terminated", terminated);
  const Array cut = in.flag("truncated", truncated);
  const Array out = in.output("target", target);
  check_fraction("retrace", "gamma", gamma);
  check_fraction("retrace", "lam", lam);

  dispatch_floating(in.first().dtype, [&]<typename N>() {
    run_recurrence(in, Retrace<N>{.behavior_log_prob = behavior.as<const N>(),
                                  .target_log_prob = target_policy.as<const N>(),
                                  .reward = in.first().as<const N>(),
                                  .value = q.as<const N>(),
                                  .next_value = next.as<const N>(),
                                  .terminated = end.as<const bool>(),
                                  .truncated = cut.as<const bool>(),
                                  .target = out.as<N>(),
                                  .gamma = N(gamma),
                                  .lambda = N(lam)});
  });
}

Tensor retrace(const Tensor& behavior_log_prob, const Tensor& target_log_prob, const Tensor& reward,
               const Tensor& value, const Tensor& next_value, const Tensor& terminated,
               const Tensor& truncated, const std::optional<Tensor>& bounds, double gamma,
               double lam) {
  const Array like = view(reward);
  const Tensor target = empty_like(like, like.dtype);
  retrace_out(behavior_log_prob, target_log_prob, reward, value, next_value, terminated, truncated,
              bounds, gamma, lam, target);
  return target;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "retrace(Tensor behavior_log_prob, Tensor target_log_prob, Tensor reward, Tensor value, "
      "Tensor next_value, Tensor terminated, Tensor truncated, Tensor? bounds, float gamma, "
      "float lam) -> Tensor");
  m.def(
      "retrace.out(Tensor behavior_log_prob, Tensor target_log_prob, Tensor reward, "
      "Tensor value, Tensor next_value, Tensor terminated, Tensor truncated, Tensor? bounds, "
      "float gamma, float lam, *, Tensor(a!) target) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("retrace", TORCH_BOX(&retrace));
  m.impl("retrace.out", TORCH_BOX(&retrace_out));
}

}  // namespace machin_fast

#include "ops/vtrace.h"

#include "ops/rollout.h"

namespace machin_fast {
namespace {

void vtrace_out(const Tensor& behavior_log_prob, const Tensor& target_log_prob,
                const Tensor& reward, const Tensor& value, const Tensor& next_value,
                const Tensor& terminated, const Tensor& truncated,
                const std::optional<Tensor>& bounds, double gamma, double lam, double rho_clip,
                double c_clip, double advantage_rho_clip, const Tensor& advantage,
                const Tensor& value_target) {
  RolloutArguments in("vtrace", "reward", reward, bounds);
  const Array behavior = in.number("behavior_log_prob", behavior_log_prob);
  const Array target = in.number("target_log_prob", target_log_prob);
  const Array v = in.number("value", value);
  const Array next = in.number("next_value", next_value);
  const Array end = in.flag("terminated", terminated);
  const Array cut = in.flag("truncated", truncated);
  const Array out = in.output("advantage", advantage);
  const Array v_target = in.output("value_target", value_target);
  check_fraction("vtrace", "gamma", gamma);
  check_fraction("vtrace", "lam", lam);
  check_not_negative("vtrace", "rho_clip", rho_clip);
  check_not_negative("vtrace", "c_clip", c_clip);
  check_not_negative("vtrace", "advantage_rho_clip", advantage_rho_clip);

  dispatch_floating(in.first().dtype, [&]<typename N>() {
    run_recurrence(in, Vtrace<N>{.behavior_log_prob = behavior.as<const N>(),
                                 .target_log_prob = target.as<const N>(),
                                 .reward = in.first().as<const N>(),
                                 .value = v.as<const N>(),
                                 .next_value = next.as<const N>(),
                                 .terminated = end.as<const bool>(),
                                 .truncated = cut.as<const bool>(),
                                 .advantage = out.as<N>(),
                                 .value_target = v_target.as<N>(),
                                 .gamma = N(gamma),
                                 .lambda = N(lam),
                                 .rho_clip = N(rho_clip),
                                 .c_clip = N(c_clip),
                                 .advantage_rho_clip = N(advantage_rho_clip)});
  });
}

std::tuple<Tensor, Tensor> vtrace(const Tensor& behavior_log_prob, const Tensor& target_log_prob,
                                  const Tensor& reward, const Tensor& value,
                                  const Tensor& next_value, const Tensor& terminated,
                                  const Tensor& truncated, const std::optional<Tensor>& bounds,
                                  double gamma, double lam, double rho_clip, double c_clip,
                                  double advantage_rho_clip) {
  const Array like = view(reward);
  const Tensor advantage = empty_like(like, like.dtype);
  const Tensor value_target = empty_like(like, like.dtype);
  vtrace_out(behavior_log_prob, target_log_prob, reward, value, next_value, terminated, truncated,
             bounds, gamma, lam, rho_clip, c_clip, advantage_rho_clip, advantage, value_target);
  return {advantage, value_target};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "vtrace(Tensor behavior_log_prob, Tensor target_log_prob, Tensor reward, Tensor value, "
      "Tensor next_value, Tensor terminated, Tensor truncated, Tensor? bounds, float gamma, "
      "float lam, float rho_clip, float c_clip, float advantage_rho_clip) -> (Tensor, Tensor)");
  m.def(
      "vtrace.out(Tensor behavior_log_prob, Tensor target_log_prob, Tensor reward, Tensor value, "
      "Tensor next_value, Tensor terminated, Tensor truncated, Tensor? bounds, float gamma, "
      "float lam, float rho_clip, float c_clip, float advantage_rho_clip, *, "
      "Tensor(a!) advantage, Tensor(b!) value_target) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("vtrace", TORCH_BOX(&vtrace));
  m.impl("vtrace.out", TORCH_BOX(&vtrace_out));
}

}  // namespace machin_fast

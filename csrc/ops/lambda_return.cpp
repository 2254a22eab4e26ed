#include "ops/lambda_return.h"

#include "ops/rollout.h"

namespace machin_fast {
namespace {

void lambda_return_out(const Tensor& reward, const Tensor& next_value, const Tensor& terminated,
                       const Tensor& truncated, const std::optional<Tensor>& bounds, double gamma,
                       double lam, const Tensor& result) {
  RolloutArguments in("lambda_return", "reward", reward, bounds);
  const Array next = in.number("next_value", next_value);
  const Array end = in.flag("terminated", terminated);
  const Array cut = in.flag("truncated", truncated);
  const Array out = in.output("result", result);
  check_fraction("lambda_return", "gamma", gamma);
  check_fraction("lambda_return", "lam", lam);

  dispatch_floating(in.first().dtype, [&]<typename N>() {
    run_recurrence(in, LambdaReturn<N>{.reward = in.first().as<const N>(),
                                       .next_value = next.as<const N>(),
                                       .terminated = end.as<const bool>(),
                                       .truncated = cut.as<const bool>(),
                                       .result = out.as<N>(),
                                       .gamma = N(gamma),
                                       .lambda = N(lam)});
  });
}

Tensor lambda_return(const Tensor& reward, const Tensor& next_value, const Tensor& terminated,
                     const Tensor& truncated, const std::optional<Tensor>& bounds, double gamma,
                     double lam) {
  const Array like = view(reward);
  const Tensor result = empty_like(like, like.dtype);
  lambda_return_out(reward, next_value, terminated, truncated, bounds, gamma, lam, result);
  return result;
}

std::tuple<Tensor, Tensor> lambda_return_backward(const Tensor& grad, const Tensor& terminated,
                                                  const Tensor& truncated,
                                                  const std::optional<Tensor>& bounds, double gamma,
                                                  double lam) {
  RolloutArguments in("lambda_return_backward", "grad", grad, bounds);
  const Array end = in.flag("terminated", terminated);
  const Array cut = in.flag("truncated", truncated);
  const Tensor grad_reward = empty_like(in.first(), in.first().dtype);
  const Tensor grad_next_value = empty_like(in.first(), in.first().dtype);

  dispatch_floating(in.first().dtype, [&]<typename N>() {
    run_recurrence(in, LambdaReturnBackward<N>{.grad = in.first().as<const N>(),
                                               .terminated = end.as<const bool>(),
                                               .truncated = cut.as<const bool>(),
                                               .grad_reward = view(grad_reward).as<N>(),
                                               .grad_next_value = view(grad_next_value).as<N>(),
                                               .gamma = N(gamma),
                                               .lambda = N(lam)});
  });
  return {grad_reward, grad_next_value};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "lambda_return(Tensor reward, Tensor next_value, Tensor terminated, Tensor truncated, "
      "Tensor? bounds, float gamma, float lam) -> Tensor");
  m.def(
      "lambda_return.out(Tensor reward, Tensor next_value, Tensor terminated, "
      "Tensor truncated, Tensor? bounds, float gamma, float lam, *, Tensor(a!) result) -> ()");
  m.def(
      "lambda_return_backward(Tensor grad, Tensor terminated, Tensor truncated, "
      "Tensor? bounds, float gamma, float lam) -> (Tensor, Tensor)");
}

MF_IMPLEMENT(m) {
  m.impl("lambda_return", TORCH_BOX(&lambda_return));
  m.impl("lambda_return.out", TORCH_BOX(&lambda_return_out));
  m.impl("lambda_return_backward", TORCH_BOX(&lambda_return_backward));
}

}  // namespace machin_fast

"""Lambda-return."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from machin_fast.ops._registration import (
    like,
    no_gradient,
    register_fake,
    register_gradient,
    wants_gradient,
    writes_in_place,
)


def lambda_return(
    reward: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    lam: float,
    bounds: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Lambda-returns: averages of all n-step returns, with weights that decay by lambda.

    A terminated step has no next value. A truncated step, and the last step of a rollout or
    segment, bootstraps from its own next value alone.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 12.18 on policy.

    Args:
        reward: ``[steps, envs]``, or flat ``[N]``; float32 or float64, reward of each step.
        next_value: Like ``reward``, V(s_{t+1}) of the state before any reset.
        terminated, truncated: Shaped like ``reward``, bool.
        gamma: Discount per step, in [0, 1].
        lam: Decay per step, in [0, 1]. 0 gives TD(0) targets, 1 Monte Carlo returns.
        bounds: ``[segments + 1]``, int64, on the CPU, with flat tensors: segment s is the rows
            ``bounds[s]:bounds[s + 1]``. None: one segment.
        out: A contiguous tensor like ``reward`` to write the result into; then the result
            carries no gradient.

    Returns:
        Lambda-returns, like ``reward``. Differentiable in ``reward`` and ``next_value``.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, a number is out
            of its range, or ``bounds`` does not partition the rows.
    """
    if out is None:
        if wants_gradient(reward, next_value):
            return torch.ops.machin_fast.lambda_return.default(
                reward, next_value, terminated, truncated, bounds, gamma, lam
            )
        out = like(reward)
    torch.ops.machin_fast.lambda_return.out(
        reward, next_value, terminated, truncated, bounds, gamma, lam, result=out
    )
    return out


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _reward, _next_value, terminated, truncated, bounds, ctx.gamma, ctx.lam = inputs
    ctx.save_for_backward(terminated, truncated, bounds)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.machin_fast.lambda_return_backward.default(
        grad, *ctx.saved_tensors, ctx.gamma, ctx.lam
    )
    return *grads, None, None, None, None, None


def _setup_context_of_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _grad, terminated, truncated, bounds, ctx.gamma, ctx.lam = inputs
    ctx.save_for_backward(terminated, truncated, bounds)


def _backward_of_backward(
    ctx: Any, grad_reward: Tensor, grad_next_value: Tensor
) -> tuple[Tensor | None, ...]:
    # The gradient is linear, and the transpose of what it is the gradient of.
    grad = torch.ops.machin_fast.lambda_return.default(
        grad_reward, grad_next_value, *ctx.saved_tensors, ctx.gamma, ctx.lam
    )
    return grad, None, None, None, None, None


register_fake("lambda_return", lambda reward, *_: like(reward))
register_fake("lambda_return_backward", lambda grad, *_: (like(grad), like(grad)))
register_gradient("lambda_return", _setup_context, _backward)
register_gradient("lambda_return_backward", _setup_context_of_backward, _backward_of_backward)
writes_in_place("lambda_return.out")
no_gradient("lambda_return.out")

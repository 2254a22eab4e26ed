"""Discounted return."""

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


def discounted_return(
    reward: Tensor,
    next_value: Tensor | None,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    bounds: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Discounted sums of rewards to the end of each episode.

    A terminated step ends the sum. A truncated step, and the last step of a rollout or segment,
    ends it with the discounted value of its own next state.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 3.9.

    Args:
        reward: ``[steps, envs]``, or flat ``[N]``; float32 or float64, reward of each step.
        next_value: Like ``reward``, V(s_{t+1}) of the state before any reset; read where an
            episode is cut short. None: such states count nothing.
        terminated, truncated: Shaped like ``reward``, bool.
        gamma: Discount per step, in [0, 1].
        bounds: ``[segments + 1]``, int64, on the CPU, with flat tensors: segment s is the rows
            ``bounds[s]:bounds[s + 1]``. None: one segment.
        out: A contiguous tensor like ``reward`` to write the result into; then the result
            carries no gradient.

    Returns:
        Returns, like ``reward``. Differentiable in ``reward`` and ``next_value``.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, a number is out
            of its range, or ``bounds`` does not partition the rows.
    """
    if out is None:
        if wants_gradient(reward, next_value):
            return torch.ops.machin_fast.discounted_return.default(
                reward, next_value, terminated, truncated, bounds, gamma
            )
        out = like(reward)
    torch.ops.machin_fast.discounted_return.out(
        reward, next_value, terminated, truncated, bounds, gamma, result=out
    )
    return out


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _reward, next_value, terminated, truncated, bounds, ctx.gamma = inputs
    ctx.bootstraps = next_value is not None
    ctx.save_for_backward(terminated, truncated, bounds)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # The lambda-return with lambda = 1 reads the same values.
    grad_reward, grad_next_value = torch.ops.machin_fast.lambda_return_backward.default(
        grad, *ctx.saved_tensors, ctx.gamma, 1.0
    )
    return grad_reward, grad_next_value if ctx.bootstraps else None, None, None, None, None


register_fake("discounted_return", lambda reward, *_: like(reward))
register_gradient("discounted_return", _setup_context, _backward)
writes_in_place("discounted_return.out")
no_gradient("discounted_return.out")

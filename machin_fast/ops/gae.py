"""Generalized advantage estimation."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import like, no_gradient, register_fake, writes_in_place


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    lam: float,
    bounds: Tensor | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates of rollouts, and the value targets that go with them.

    A terminated step has no next value. A truncated step keeps it. Both end the trace, so
    advantages never leak across an episode border; so does the last step of a rollout or segment.

    Source: Schulman et al. 2016, arXiv:1506.02438, equation 16.

    Args:
        reward: ``[steps, envs]``, or flat ``[N]``; float32 or float64, reward of each step.
        value: Like ``reward``, V(s_t).
        next_value: Like ``reward``, V(s_{t+1}) of the state before any reset.
        terminated, truncated: Shaped like ``reward``, bool.
        gamma: Discount per step, in [0, 1].
        lam: Trace decay per step, in [0, 1]. 0 gives TD(0), 1 Monte Carlo.
        bounds: ``[segments + 1]``, int64, on the CPU, with flat tensors: segment s is the rows
            ``bounds[s]:bounds[s + 1]``. None: one segment.
        out: Two contiguous tensors like ``reward`` to write the results into.

    Returns:
        Advantages and value targets (advantage plus value, the lambda-returns), both like
        ``reward``. They carry no gradient.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, a number is out
            of its range, or ``bounds`` does not partition the rows.
    """
    if out is None:
        return torch.ops.machin_fast.gae.default(
            reward, value, next_value, terminated, truncated, bounds, gamma, lam
        )
    torch.ops.machin_fast.gae.out(
        reward, value, next_value, terminated, truncated, bounds, gamma, lam,
        advantage=out[0], value_target=out[1],
    )  # fmt: skip
    return out


register_fake("gae", lambda reward, *_: (like(reward), like(reward)))
writes_in_place("gae.out")
no_gradient("gae", "gae.out")

"""Retrace(lambda)."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import like, no_gradient, register_fake, writes_in_place


def retrace(
    behavior_log_prob: Tensor,
    target_log_prob: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    lam: float = 1.0,
    bounds: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Retrace targets of the action values along off-policy rollouts.

    A terminated step has no next value. A truncated step keeps it. Both end the trace; so does
    the last step of a rollout or segment.

    Source: Munos et al. 2016, arXiv:1606.02647, equations 3 and 4.

    Args:
        behavior_log_prob: ``[steps, envs]``, or flat ``[N]``; float32 or float64, log mu(a_t|s_t)
            of the policy that acted.
        target_log_prob: Likewise, log pi(a_t|s_t) of the policy that learns.
        reward: Likewise, reward of each step.
        value: Likewise, Q(s_t, a_t).
        next_value: Likewise, the expectation of Q(s_{t+1}, .) under pi, of the state before any
            reset.
        terminated, truncated: Of the same shape, bool.
        gamma: Discount per step, in [0, 1].
        lam: Decay of the trace per step, in [0, 1].
        bounds: ``[segments + 1]``, int64, on the CPU, with flat tensors: segment s is the rows
            ``bounds[s]:bounds[s + 1]``. None: one segment.
        out: A contiguous tensor like ``reward`` to write the result into.

    Returns:
        Targets of Q(s_t, a_t), like ``reward``. They carry no gradient.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, a number is out
            of its range, or ``bounds`` does not partition the rows.
    """
    if out is None:
        return torch.ops.machin_fast.retrace.default(
            behavior_log_prob, target_log_prob, reward, value, next_value, terminated, truncated,
            bounds, gamma, lam,
        )  # fmt: skip
    torch.ops.machin_fast.retrace.out(
        behavior_log_prob, target_log_prob, reward, value, next_value, terminated, truncated,
        bounds, gamma, lam, target=out,
    )  # fmt: skip
    return out


register_fake("retrace", lambda _behavior, _target, reward, *_: like(reward))
writes_in_place("retrace.out")
no_gradient("retrace", "retrace.out")

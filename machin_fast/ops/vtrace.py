"""V-trace."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import like, no_gradient, register_fake, writes_in_place


def vtrace(
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
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    advantage_rho_clip: float = 1.0,
    bounds: Tensor | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """V-trace policy-gradient advantages and value targets of off-policy rollouts.

    A terminated step has no next value. A truncated step keeps it. Both end the trace; so does
    the last step of a rollout or segment.

    Source: Espeholt et al. 2018, arXiv:1802.01561, equation 1 and section 4.2.

    Args:
        behavior_log_prob: ``[steps, envs]``, or flat ``[N]``; float32 or float64, log mu(a_t|s_t)
            of the policy that acted.
        target_log_prob: Likewise, log pi(a_t|s_t) of the policy that learns.
        reward: Likewise, reward of each step.
        value: Likewise, V(s_t).
        next_value: Likewise, V(s_{t+1}) of the state before any reset.
        terminated, truncated: Of the same shape, bool.
        gamma: Discount per step, in [0, 1].
        lam: Further decay of the trace per step, in [0, 1]; 1 in the paper.
        rho_clip: Most that the ratio pi/mu counts in the temporal difference, at least 0.
        c_clip: Most that it counts in the trace, at least 0.
        advantage_rho_clip: Most that it counts in the advantage, at least 0.
        bounds: ``[segments + 1]``, int64, on the CPU, with flat tensors: segment s is the rows
            ``bounds[s]:bounds[s + 1]``. None: one segment.
        out: Two contiguous tensors like ``reward`` to write the results into.

    Returns:
        Advantages (times the clipped ratio) and value targets, both like ``reward``. They carry
        no gradient.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, a number is out
            of its range, or ``bounds`` does not partition the rows.
    """
    if out is None:
        return torch.ops.machin_fast.vtrace.default(
            behavior_log_prob, target_log_prob, reward, value, next_value, terminated, truncated,
            bounds, gamma, lam, rho_clip, c_clip, advantage_rho_clip,
        )  # fmt: skip
    torch.ops.machin_fast.vtrace.out(
        behavior_log_prob, target_log_prob, reward, value, next_value, terminated, truncated,
        bounds, gamma, lam, rho_clip, c_clip, advantage_rho_clip,
        advantage=out[0], value_target=out[1],
    )  # fmt: skip
    return out


register_fake("vtrace", lambda _behavior, _target, reward, *_: (like(reward), like(reward)))
writes_in_place("vtrace.out")
no_gradient("vtrace", "vtrace.out")

"""n-step return."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import like, no_gradient, register_fake, writes_in_place


def nstep_return(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    n: int,
    bounds: Tensor | None = None,
    out: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Discounted sums of the next n rewards, and what is needed to bootstrap from there.

    The n-step target of row i is ``reward_sum[i] + discount[i] * V(next state of last_row[i])``.
    Where an episode or the recording ends within n steps, fewer rewards are summed: a terminated
    step sets the discount to 0, any other end bootstraps from its own next state.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 7.1.

    Args:
        reward: ``[steps, envs]``, or flat ``[N]``; float32 or float64, reward of each step.
        terminated, truncated: Shaped like ``reward``, bool.
        gamma: Discount per step, in [0, 1].
        n: Most rewards to sum, at least 1. The cost grows with it.
        bounds: ``[segments + 1]``, int64, on the CPU, with flat tensors: segment s is the rows
            ``bounds[s]:bounds[s + 1]``. None: one segment.
        out: Three contiguous tensors, two like ``reward`` and one int64, to write the results
            into.

    Returns:
        Reward sums and discounts, like ``reward``, and the last row summed, int64, counted in the
        flattened rollout (step * envs + env). They carry no gradient.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, a number is out
            of its range, or ``bounds`` does not partition the rows.
    """
    if out is None:
        return torch.ops.machin_fast.nstep_return.default(
            reward, terminated, truncated, bounds, gamma, n
        )
    torch.ops.machin_fast.nstep_return.out(
        reward, terminated, truncated, bounds, gamma, n,
        reward_sum=out[0], discount=out[1], last_row=out[2],
    )  # fmt: skip
    return out


register_fake(
    "nstep_return",
    lambda reward, *_: (like(reward), like(reward), like(reward, torch.int64)),
)
writes_in_place("nstep_return.out")
no_gradient("nstep_return", "nstep_return.out")

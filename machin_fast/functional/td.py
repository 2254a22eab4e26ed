"""Temporal-difference targets."""

from __future__ import annotations

from torch import Tensor


def double_q_value(next_q: Tensor, next_q_target: Tensor) -> Tensor:
    """Values of next states: one network chooses the action, the other one judges it.

    Source: van Hasselt et al. 2016, arXiv:1509.06461, equation 4.

    Args:
        next_q: ``[batch, actions]``, Q(s', a) of the network that learns; chooses.
        next_q_target: Like ``next_q``, Q(s', a) of the target network; judges.

    Returns:
        ``[batch, 1]``, dtype of ``next_q_target``. Differentiable in ``next_q_target``.

    Raises:
        ValueError: The two are not of one shape ``[batch, actions]``.
    """
    if next_q.dim() != 2:
        raise ValueError(
            f"double_q_value: next_q must be [batch, actions], got {list(next_q.shape)}"
        )
    if next_q_target.shape != next_q.shape:
        raise ValueError(
            f"double_q_value: next_q_target must have shape {list(next_q.shape)}, "
            f"got {list(next_q_target.shape)}"
        )
    return next_q_target.gather(1, next_q.argmax(dim=1, keepdim=True))


def td_target(reward: Tensor, discount: Tensor | float, next_value: Tensor) -> Tensor:
    """Targets of values: the reward, and what is expected to follow.

    With the reward sums and discounts of ``ops.nstep_return`` these are n-step targets.

    Source: Sutton and Barto 2018, Reinforcement Learning, equations 6.2 and 7.1.

    Args:
        reward: Any shape, the reward or the discounted sum of n rewards.
        discount: Like ``reward``, or one number: gamma (to the n-th power), and 0 where the
            episode terminated, but not where it was truncated.
        next_value: Like ``reward``, value of the state after those rewards.

    Returns:
        Like ``reward``. Differentiable in all three.

    Raises:
        ValueError: The shapes differ; they are never broadcast, as ``[batch]`` with
            ``[batch, 1]`` would give ``[batch, batch]``.
    """
    if next_value.shape != reward.shape:
        raise ValueError(
            f"td_target: next_value must have shape {list(reward.shape)}, "
            f"got {list(next_value.shape)}"
        )
    if isinstance(discount, Tensor) and discount.shape != reward.shape:
        raise ValueError(
            f"td_target: discount must have shape {list(reward.shape)}, got {list(discount.shape)}"
        )
    return reward + discount * next_value

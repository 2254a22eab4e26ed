"""Temporal-difference targets."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from machin_fast.functional._checks import check_mask, check_shape


def greedy_action(q: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """The actions of the highest value.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 4.9.

    Args:
        q: ``[batch, actions]``, Q(s, a).
        action_mask: Like ``q``, bool: which actions there are. None: all.

    Returns:
        ``[batch, 1]``, int64; the first of several best ones, 0 in a row without actions.

    Raises:
        ValueError: ``q`` is not ``[batch, actions]``, or ``action_mask`` differs in shape.
        TypeError: ``action_mask`` is no bool.
    """
    return _allowed("greedy_action", "q", q, action_mask).argmax(1, keepdim=True)


def max_q_value(next_q: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Values of next states: those of their best actions.

    Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1.

    Args:
        next_q: ``[batch, actions]``, Q(s', a).
        action_mask: Like ``next_q``, bool: which actions there are. None: all.

    Returns:
        ``[batch, 1]``; 0 in a row without actions. Differentiable.

    Raises:
        ValueError: ``next_q`` is not ``[batch, actions]``, or ``action_mask`` differs in shape.
        TypeError: ``action_mask`` is no bool.
    """
    value = _allowed("max_q_value", "next_q", next_q, action_mask).amax(1, keepdim=True)
    return _or_nothing(value, action_mask)


def double_q_value(
    next_q: Tensor, next_q_target: Tensor, action_mask: Tensor | None = None
) -> Tensor:
    """Values of next states: one network chooses the action, the other one judges it.

    Source: van Hasselt et al. 2016, arXiv:1509.06461, equation 4.

    Args:
        next_q: ``[batch, actions]``, Q(s', a) of the network that learns; chooses.
        next_q_target: Like ``next_q``, Q(s', a) of the target network; judges.
        action_mask: Like ``next_q``, bool: which actions there are. None: all.

    Returns:
        ``[batch, 1]``, dtype of ``next_q_target``; 0 in a row without actions. Differentiable in
        ``next_q_target``.

    Raises:
        ValueError: ``next_q`` is not ``[batch, actions]``, or another one differs in shape.
        TypeError: ``action_mask`` is no bool.
    """
    action = _allowed("double_q_value", "next_q", next_q, action_mask).argmax(1, keepdim=True)
    check_shape("double_q_value", "next_q_target", next_q_target, next_q.shape)
    return _or_nothing(next_q_target.gather(1, action), action_mask)


def min_q_value(q: Tensor, *others: Tensor) -> Tensor:
    """The least value that any critic gives, against overestimation.

    Source: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1.

    Args:
        q: Any shape, values by the first critic.
        others: Like ``q``, values by the other ones.

    Returns:
        Like ``q``. Differentiable.

    Raises:
        ValueError: The shapes differ.
    """
    for i, other in enumerate(others):
        check_shape("min_q_value", f"others[{i}]", other, q.shape)
    return functools.reduce(torch.minimum, others, q)


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
    check_shape("td_target", "next_value", next_value, reward.shape)
    if isinstance(discount, Tensor):
        check_shape("td_target", "discount", discount, reward.shape)
    return reward + discount * next_value


def hysteretic_target(value: Tensor, target: Tensor, increase: float, decrease: float) -> Tensor:
    """Targets that go part of the way: one part upwards, another one downwards.

    With ``increase`` above ``decrease`` an agent forgives what its team mates' exploration cost.

    Source: Matignon et al. 2007, Hysteretic Q-learning, doi:10.1109/IROS.2007.4399095.

    Args:
        value: Any shape, Q(s, a).
        target: Like ``value``, what Q(s, a) should be.
        increase, decrease: Part of the way where the target is above the value, and below it.

    Returns:
        Like ``value``. Carries no gradient.

    Raises:
        ValueError: The shapes differ.
    """
    check_shape("hysteretic_target", "target", target, value.shape)
    delta = (target - value).detach()
    return value.detach() + torch.where(delta > 0, increase * delta, decrease * delta)


def _allowed(op: str, name: str, q: Tensor, action_mask: Tensor | None) -> Tensor:
    """``q`` with -inf at actions that there are not."""
    if q.dim() != 2:
        raise ValueError(f"{op}: {name} must be [batch, actions], got {list(q.shape)}")
    if action_mask is None:
        return q
    check_mask(op, "action_mask", action_mask, q.shape)
    return q.masked_fill(~action_mask, -torch.inf)


def _or_nothing(value: Tensor, action_mask: Tensor | None) -> Tensor:
    """0 in rows without actions: nothing follows, and 0 * -inf would be NaN in a target."""
    if action_mask is None:
        return value
    return value.masked_fill(~action_mask.any(1, keepdim=True), 0)

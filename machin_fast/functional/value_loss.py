"""Losses of values."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.functional._checks import check_positive
from machin_fast.functional._steps import mean, real


def value_loss(value: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Half the mean squared error.

    Source: Sutton and Barto 2018, Reinforcement Learning, equations 9.1 and 9.4.

    Args:
        value: Any shape, what a critic says.
        target: Like ``value``, what it should say.
        mask: Like ``value``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``; 0 where there are no steps. Differentiable in both.

    Raises:
        ValueError: The shapes differ.
        TypeError: ``mask`` is no bool.
    """
    op = "value_loss"
    value, target = real(op, mask, value=value, target=target)
    return mean(op, mask, (value - target).square()) / 2


def clipped_value_loss(
    value: Tensor, old_value: Tensor, target: Tensor, clip: float, mask: Tensor | None = None
) -> Tensor:
    """Half the mean squared error, which gains nothing by going far from the old value.

    Source: Schulman et al. 2017, OpenAI Baselines ppo2; Engstrom et al. 2020, arXiv:2005.12729,
    section 3.

    Args:
        value: Any shape, what a critic says.
        old_value: Like ``value``, what it said before this round of updates.
        target: Like ``value``, what it should say.
        clip: How far it may go from the old value, above 0.
        mask: Like ``value``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``; 0 where there are no steps. Differentiable in the first three.

    Raises:
        ValueError: The shapes differ, or ``clip`` is out of its range.
        TypeError: ``mask`` is no bool.
    """
    op = "clipped_value_loss"
    check_positive(op, "clip", clip)
    value, old_value, target = real(op, mask, value=value, old_value=old_value, target=target)
    near = old_value + (value - old_value).clamp(-clip, clip)
    error = torch.maximum((value - target).square(), (near - target).square())
    return mean(op, mask, error) / 2

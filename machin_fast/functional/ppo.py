"""Proximal policy optimization."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.functional._checks import check_positive, number
from machin_fast.functional._steps import mean, real
from machin_fast.functional.importance_ratio import importance_ratio


def ppo_clip_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip: float,
    mask: Tensor | None = None,
) -> Tensor:
    """The surrogate, which gains nothing by going far from the old policy.

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 7.

    Args:
        log_prob: Any shape, log pi(a|s).
        old_log_prob: Like ``log_prob``, that of the policy that acted.
        advantage: Like ``log_prob``; the loss is differentiable in it, so detach it.
        clip: How far the ratio may go from 1, above 0.
        mask: Like ``log_prob``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ, or ``clip`` is out of its range.
        TypeError: ``mask`` is no bool.
    """
    op = "ppo_clip_loss"
    check_positive(op, "clip", clip)
    log_prob, old_log_prob, advantage = real(
        op, mask, log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage
    )
    ratio = importance_ratio(log_prob, old_log_prob)
    near = ratio.clamp(1 - clip, 1 + clip)
    return -mean(op, mask, torch.minimum(ratio * advantage, near * advantage))


def ppo_kl_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    kl: Tensor,
    beta: Tensor | float,
    mask: Tensor | None = None,
) -> Tensor:
    """The surrogate, and a penalty for going far from the old policy.

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 8.

    Args:
        log_prob: Any shape, log pi(a|s).
        old_log_prob: Like ``log_prob``, that of the policy that acted.
        advantage: Like ``log_prob``; the loss is differentiable in it, so detach it.
        kl: Like ``log_prob``, KL(old policy || policy) at each step.
        beta: Weight of the penalty, one number (``kl_coefficient``).
        mask: Like ``log_prob``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ, or ``beta`` is not one number.
        TypeError: ``mask`` is no bool.
    """
    op = "ppo_kl_loss"
    beta = number(op, "beta", beta)
    log_prob, old_log_prob, advantage, kl = real(
        op, mask, log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage, kl=kl
    )
    ratio = importance_ratio(log_prob, old_log_prob)
    return mean(op, mask, beta * kl - ratio * advantage)


def kl_coefficient(beta: Tensor | float, kl: Tensor, target: float) -> Tensor:
    """The next weight of the penalty.

    1.5 times as much after the policy went too far, 1 / 1.5 of it after not far enough.

    Source: Schulman et al. 2017, arXiv:1707.06347, section 4, with the factors of machina.

    Args:
        beta: The weight that was used, one number.
        kl: The mean KL(old policy || policy) that came of it, one number.
        target: What it should be, above 0. From 0.7 to 1.3 times that is near enough.

    Returns:
        ``[]``, dtype and device of ``kl``. Costs no synchronisation.

    Raises:
        ValueError: ``beta`` or ``kl`` is not one number, or ``target`` is out of its range.
    """
    check_positive("kl_coefficient", "target", target)
    beta, kl = number("kl_coefficient", "beta", beta), number("kl_coefficient", "kl", kl)
    power = (kl > 1.3 * target).to(kl.dtype) - (kl < 0.7 * target).to(kl.dtype)
    return beta * 1.5**power

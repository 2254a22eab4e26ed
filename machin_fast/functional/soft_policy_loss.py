"""Soft actor-critic."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.functional._checks import check_mask, number
from machin_fast.functional._steps import mean, real
from machin_fast.functional.soft_value import expected_soft_q_value, soft_q_value


def soft_policy_loss(
    log_prob: Tensor, q: Tensor, alpha: Tensor | float, mask: Tensor | None = None
) -> Tensor:
    """Moves a policy towards actions of high value and itself towards high entropy.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, equation 9.

    Args:
        log_prob: Any shape, log pi(a|s) of actions drawn from the policy, with their graph: the
            gradient of the entropy goes through the actions as well.
        q: Like ``log_prob``, Q(s, a), the least of the critics, with the graph of the actions.
        alpha: Temperature, one number; detach it.
        mask: Like ``log_prob``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``, ``mean(alpha * log_prob - q)``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ, or ``alpha`` is not one number.
        TypeError: ``mask`` is no bool.
    """
    op = "soft_policy_loss"
    alpha = number(op, "alpha", alpha)
    log_prob, q = real(op, mask, log_prob=log_prob, q=q)
    return -mean(op, mask, soft_q_value(q, log_prob, alpha))


def discrete_soft_policy_loss(
    log_prob: Tensor, q: Tensor, alpha: Tensor | float, mask: Tensor | None = None
) -> Tensor:
    """Like ``soft_policy_loss``, in expectation over all actions.

    Source: Christodoulou 2019, arXiv:1910.07207, equation 12.

    Args:
        log_prob: ``[..., actions]``, log pi(a|s), as by ``masked_log_softmax``. May be -inf.
        q: Like ``log_prob``, Q(s, a), the least of the critics; detach it.
        alpha: Temperature, one number; detach it.
        mask: ``[..., 1]``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ, or ``alpha`` is not one number.
        TypeError: ``mask`` is no bool.
    """
    op = "discrete_soft_policy_loss"
    alpha = number(op, "alpha", alpha)
    log_prob, q = real(op, None, log_prob=log_prob, q=q)
    if mask is not None:
        check_mask(op, "mask", mask, torch.Size([*q.shape[:-1], 1]))
        log_prob, q = log_prob.masked_fill(~mask, 0), q.masked_fill(~mask, 0)
    return -mean(op, mask, expected_soft_q_value(q, log_prob, alpha))


def temperature_loss(
    log_alpha: Tensor, log_prob: Tensor, target_entropy: float, mask: Tensor | None = None
) -> Tensor:
    """Raises the temperature while the policy's entropy is below its target.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, equation 18, with log alpha for alpha.

    Args:
        log_alpha: Logarithm of the temperature, one number.
        log_prob: Any shape, log pi(a|s) of actions drawn from the policy, or the negative of its
            entropy.
        target_entropy: What the entropy should be.
        mask: Like ``log_prob``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``, ``-log_alpha * mean(log_prob + target_entropy)``; 0 where there are no steps.
        Differentiable in ``log_alpha`` alone.

    Raises:
        ValueError: The shapes differ, or ``log_alpha`` is not one number.
        TypeError: ``mask`` is no bool.
    """
    op = "temperature_loss"
    log_alpha = number(op, "log_alpha", log_alpha)
    return -log_alpha * mean(op, mask, log_prob.detach() + target_entropy)

"""Values that count the entropy of the policy."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._checks import check_dims, check_shape, number
from machin_fast.functional._finite import finite


def soft_q_value(q: Tensor, log_prob: Tensor, alpha: Tensor | float) -> Tensor:
    """Values of states by an action drawn from the policy: ``q - alpha * log_prob``.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, equation 3.

    Args:
        q: Any shape, Q(s, a).
        log_prob: Like ``q``, log pi(a|s).
        alpha: Temperature, one number.

    Returns:
        Like ``q``. Differentiable in all three.

    Raises:
        ValueError: The shapes differ, or ``alpha`` is not one number.
    """
    check_shape("soft_q_value", "log_prob", log_prob, q.shape)
    return q - number("soft_q_value", "alpha", alpha) * log_prob


def expected_soft_q_value(q: Tensor, log_prob: Tensor, alpha: Tensor | float) -> Tensor:
    """Values of states by all their actions: ``sum_a pi(a) * (q(a) - alpha * log pi(a))``.

    Source: Christodoulou 2019, arXiv:1910.07207, equation 10.

    Args:
        q: ``[..., actions]``, Q(s, a).
        log_prob: Like ``q``, log pi(a|s), as by ``masked_log_softmax``. May be -inf.
        alpha: Temperature, one number.

    Returns:
        ``[..., 1]``. Differentiable in all three.

    Raises:
        ValueError: ``q`` has no dimension, the shapes differ, or ``alpha`` is not one number.
    """
    op = "expected_soft_q_value"
    check_dims(op, "q", q, "actions")
    check_shape(op, "log_prob", log_prob, q.shape)
    alpha = number(op, "alpha", alpha)
    log_prob = finite(log_prob)
    probability = log_prob.exp()
    # In this order: alpha * log_prob might overflow, and 0 * -inf is NaN.
    return (probability * q - alpha * (probability * log_prob)).sum(-1, keepdim=True)

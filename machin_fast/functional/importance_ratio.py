"""Ratios of policies."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._checks import check_shape


def importance_ratio(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """How much more likely actions are than they were.

    Source: Schulman et al. 2017 (PPO), arXiv:1707.06347, section 3.

    Args:
        log_prob: Any shape, log pi(a|s).
        old_log_prob: Like ``log_prob``, that of the policy that acted.

    Returns:
        Like ``log_prob``, ``exp(log_prob - old_log_prob)``, at most e^40; constant from there on.
        Differentiable in both.

    Raises:
        ValueError: The shapes differ.
    """
    check_shape("importance_ratio", "old_log_prob", old_log_prob, log_prob.shape)
    # float32 ends at e^88, and an infinite ratio makes NaN of a gradient that is 0.
    return (log_prob - old_log_prob).clamp(max=40).exp()

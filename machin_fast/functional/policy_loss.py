"""Losses of policies."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._steps import mean, real
from machin_fast.functional.importance_ratio import importance_ratio


def policy_gradient_loss(log_prob: Tensor, advantage: Tensor, mask: Tensor | None = None) -> Tensor:
    """Makes actions as much more likely as they were better than expected.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 13.11.

    Args:
        log_prob: Any shape, log pi(a|s).
        advantage: Like ``log_prob``; the loss is differentiable in it, so detach it.
        mask: Like ``log_prob``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``, ``-mean(log_prob * advantage)``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ.
        TypeError: ``mask`` is no bool.
    """
    op = "policy_gradient_loss"
    log_prob, advantage = real(op, mask, log_prob=log_prob, advantage=advantage)
    return -mean(op, mask, log_prob * advantage)


def surrogate_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Like ``policy_gradient_loss``, for actions that an older policy took.

    Source: Schulman et al. 2015 (TRPO), arXiv:1502.05477, equation 14.

    Args:
        log_prob: Any shape, log pi(a|s).
        old_log_prob: Like ``log_prob``, that of the policy that acted.
        advantage: Like ``log_prob``; the loss is differentiable in it, so detach it.
        mask: Like ``log_prob``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``, ``-mean(ratio * advantage)``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ.
        TypeError: ``mask`` is no bool.
    """
    op = "surrogate_loss"
    log_prob, old_log_prob, advantage = real(
        op, mask, log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage
    )
    return -mean(op, mask, importance_ratio(log_prob, old_log_prob) * advantage)


def deterministic_policy_loss(q: Tensor, mask: Tensor | None = None) -> Tensor:
    """Moves a policy towards the actions that a critic values most.

    Source: Lillicrap et al. 2016 (DDPG), arXiv:1509.02971, equation 6.

    Args:
        q: Any shape, Q(s, pi(s)), with the graph of the actions.
        mask: Like ``q``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``, ``-mean(q)``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ.
        TypeError: ``mask`` is no bool.
    """
    return -mean("deterministic_policy_loss", mask, q)


def entropy_loss(entropy: Tensor, weight: float, mask: Tensor | None = None) -> Tensor:
    """The bonus for exploration as a loss: it falls as the entropy rises.

    Source: Mnih et al. 2016 (A3C), arXiv:1602.01783, section 4.

    Args:
        entropy: Any shape, of the policy at each step.
        weight: What the entropy is worth. (Machin's ``entropy_weight`` has the other sign.)
        mask: Like ``entropy``, bool. False: no step, whatever stands there. None: all are steps.

    Returns:
        ``[]``, ``-weight * mean(entropy)``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: The shapes differ.
        TypeError: ``mask`` is no bool.
    """
    return -weight * mean("entropy_loss", mask, entropy)

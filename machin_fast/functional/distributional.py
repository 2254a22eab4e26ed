"""Values as distributions over atoms (C51)."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._checks import check_dims, check_shape
from machin_fast.functional._finite import finite
from machin_fast.functional.td import greedy_action


def expected_value(probability: Tensor, support: Tensor) -> Tensor:
    """Means of distributions over atoms.

    Source: Bellemare et al. 2017, arXiv:1707.06887, algorithm 1.

    Args:
        probability: ``[..., atoms]``, of each atom.
        support: ``[atoms]``, the return that each atom stands for.

    Returns:
        ``[...]``. Differentiable.

    Raises:
        ValueError: ``probability`` has no dimension, or ``support`` is not ``[atoms]``.
    """
    check_dims("expected_value", "probability", probability, "atoms")
    check_shape("expected_value", "support", support, probability.shape[-1:])
    return (probability * support).sum(-1)


def double_q_distribution(
    next_q: Tensor, next_probability: Tensor, action_mask: Tensor | None = None
) -> Tensor:
    """Distributions of next states: one network chooses the action, the other one judges it.

    ``ops.categorical_projection`` makes targets of them.

    Source: Hessel et al. 2018 (Rainbow), arXiv:1710.02298, section "The Integrated Agent".

    Args:
        next_q: ``[batch, actions]``, Q(s', a) of the network that learns; chooses. It is the
            ``expected_value`` of that network's distributions.
        next_probability: ``[batch, actions, atoms]``, by the target network; judges.
        action_mask: Like ``next_q``, bool: which actions there are. None: all.

    Returns:
        ``[batch, atoms]``; those of action 0 in a row without actions. Differentiable in
        ``next_probability``.

    Raises:
        ValueError: A shape differs from what is listed above.
        TypeError: ``action_mask`` is no bool.
    """
    op = "double_q_distribution"
    if next_probability.dim() != 3:
        raise ValueError(
            f"{op}: next_probability must be [batch, actions, atoms], "
            f"got {list(next_probability.shape)}"
        )
    check_shape(op, "next_q", next_q, next_probability.shape[:2])
    action = greedy_action(next_q, action_mask).unsqueeze(2)
    return next_probability.take_along_dim(action, 1).squeeze(1)


def categorical_cross_entropy(target: Tensor, log_prob: Tensor) -> Tensor:
    """How badly distributions fit their targets, each sample on its own.

    Source: Bellemare et al. 2017, arXiv:1707.06887, algorithm 1.

    Args:
        target: ``[..., atoms]``, probabilities that should be.
        log_prob: Like ``target``, logarithms of those that are. May be -inf: where the target is
            not 0 the result is then huge, but finite.

    Returns:
        ``[...]``. Differentiable.

    Raises:
        ValueError: ``target`` has no dimension, or the shapes differ.
    """
    check_dims("categorical_cross_entropy", "target", target, "atoms")
    check_shape("categorical_cross_entropy", "log_prob", log_prob, target.shape)
    return -(target * finite(log_prob)).sum(-1)

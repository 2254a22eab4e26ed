"""Prioritized replay."""

from __future__ import annotations

from torch import Tensor


def importance_weight(
    probability: Tensor, size: int, beta: float, minimum: Tensor | float | None = None
) -> Tensor:
    """Weights that undo the bias of drawing rows with unequal probabilities.

    ``(size * probability) ** -beta``, which is 1 for uniform draws. Given the least probability,
    weights are divided by the one that belongs to it, the largest possible, so that they only
    ever scale updates down; ``size`` cancels out then.

    Source: Schaul et al. 2016, arXiv:1511.05952, section 3.4.

    Args:
        probability: Any shape, above 0, of the rows that were drawn.
        size: Number of rows that could be drawn.
        beta: How much of the bias to undo, in [0, 1]. 1 undoes it all.
        minimum: The least probability of any row, drawn or not, above 0. A tensor is ``[]``.

    Returns:
        Like ``probability``.

    Raises:
        ValueError: ``size`` or ``beta`` is out of its range.
    """
    if size < 1:
        raise ValueError(f"importance_weight: size must be at least 1, got {size}")
    if not 0 <= beta <= 1:
        raise ValueError(f"importance_weight: beta must be in [0, 1], got {beta}")
    uniform = 1 / size if minimum is None else minimum
    return (uniform / probability) ** beta

"""Means over real steps."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._steps import mean


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of the entries that are real steps.

    Source: none, this is a mean.

    Args:
        x: Any shape, floating.
        mask: Like ``x``, bool. False: no step; what stands there, NaN as well, changes neither
            the mean nor its gradient. None: all are steps.

    Returns:
        ``[]``; 0 where there are no steps. Differentiable.

    Raises:
        ValueError: ``mask`` differs in shape.
        TypeError: ``mask`` is no bool.
    """
    return mean("masked_mean", mask, x)

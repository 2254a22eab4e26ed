"""Real steps, and what is none."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._checks import check_mask, check_shape


def real(op: str, mask: Tensor | None, **tensors: Tensor) -> list[Tensor]:
    """``tensors``, which must be of one shape, with 0 wherever ``mask`` is False.

    Losses mask what they are given, not only what they make of it: the gradient of a product
    with NaN is NaN even where the product itself is masked.
    """
    values = list(tensors.values())
    for name, x in tensors.items():
        check_shape(op, name, x, values[0].shape)
    if mask is None:
        return values
    check_mask(op, "mask", mask, values[0].shape)
    return [x.masked_fill(~mask, 0) for x in values]


def mean(op: str, mask: Tensor | None, x: Tensor) -> Tensor:
    """``[]``, over the real steps; 0 where there are none."""
    (x,) = real(op, mask, x=x)
    if mask is not None:
        return x.sum() / mask.sum().clamp(min=1)
    return x.mean() if x.numel() else x.sum()

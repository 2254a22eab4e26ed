"""Many tensors as one vector."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def flatten_tensors(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers of many tensors, one after the other.

    Source: none, this is bookkeeping.

    Args:
        tensors: At least one, any shapes.

    Returns:
        ``[numbers]``, a copy. Differentiable.

    Raises:
        ValueError: There is no tensor.
    """
    rows = [x.reshape(-1) for x in tensors]
    if not rows:
        raise ValueError("flatten_tensors: tensors must not be empty, got none")
    return torch.cat(rows)


def unflatten_tensors(vector: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """The inverse of ``flatten_tensors``.

    ``hard_update_(parameters, unflatten_tensors(vector, parameters))`` writes them back.

    Source: none, this is bookkeeping.

    Args:
        vector: ``[numbers]``.
        like: Tensors of the shapes wanted.

    Returns:
        Views of ``vector``. Differentiable.

    Raises:
        ValueError: ``vector`` does not hold as many numbers as ``like``.
    """
    like = list(like)
    size = sum(x.numel() for x in like)
    if vector.shape != (size,):
        raise ValueError(
            f"unflatten_tensors: vector must have shape [{size}], got {list(vector.shape)}"
        )
    parts = vector.split([x.numel() for x in like])
    return [part.view(x.shape) for part, x in zip(parts, like, strict=True)]

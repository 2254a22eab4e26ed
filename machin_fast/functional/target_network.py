"""Target networks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def polyak_update_(target: Iterable[Tensor], source: Iterable[Tensor], rate: float) -> None:
    """Moves target parameters towards their sources: ``target += rate * (source - target)``.

    All parameters are changed by one call (a handful of kernels on CUDA, whatever their number).

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 3 (soft target updates).

    Args:
        target: Parameters of the target network; changed in place.
        source: Parameters of the network that learns, in the same order.
        rate: Part of the way to go, in [0, 1]. 1 copies, bit for bit.

    Raises:
        ValueError: ``rate`` is out of its range, or the two differ in number or shape.
    """
    target, source = list(target), list(source)
    if not 0 <= rate <= 1:
        raise ValueError(f"polyak_update_: rate must be in [0, 1], got {rate}")
    shapes, source_shapes = [x.shape for x in target], [x.shape for x in source]
    if shapes != source_shapes:
        raise ValueError(
            f"polyak_update_: source must have shapes {[*map(list, shapes)]}, "
            f"got {[*map(list, source_shapes)]}"
        )
    if target:
        torch._foreach_lerp_(target, source, rate)

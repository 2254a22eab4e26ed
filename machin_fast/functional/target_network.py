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
    if not 0 <= rate <= 1:
        raise ValueError(f"polyak_update_: rate must be in [0, 1], got {rate}")
    target, source = _pairs("polyak_update_", target, source)
    if target:
        torch._foreach_lerp_(target, source, rate)


@torch.no_grad()
def hard_update_(target: Iterable[Tensor], source: Iterable[Tensor]) -> None:
    """Copies tensors, bit for bit, by one call: parameters, and buffers of any dtype.

    Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1.

    Args:
        target: Parameters and buffers of the target network; changed in place.
        source: Those of the network that learns, in the same order.

    Raises:
        ValueError: The two differ in number or shape.
    """
    target, source = _pairs("hard_update_", target, source)
    if target:
        torch._foreach_copy_(target, source)


def _pairs(
    op: str, target: Iterable[Tensor], source: Iterable[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    target, source = list(target), list(source)
    shapes, source_shapes = [x.shape for x in target], [x.shape for x in source]
    if shapes != source_shapes:
        raise ValueError(
            f"{op}: source must have shapes {[*map(list, shapes)]}, "
            f"got {[*map(list, source_shapes)]}"
        )
    return target, source

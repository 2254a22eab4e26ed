"""Actions between bounds, by tanh."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from machin_fast.functional import inverse_tanh


def squash(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Any numbers as actions in [low, high]: -inf is ``low``, 0 the middle."""
    # The clamp takes rounding errors away: an environment may refuse what is out of its bounds.
    return ((low + high) / 2 + (high - low) / 2 * x.tanh()).clamp(low, high)


def unsquash(action: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The numbers that ``squash`` made actions of; finite, even those of ``low`` and ``high``."""
    return inverse_tanh((2 * action - (low + high)) / (high - low))


def bounds(op: str, low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """Bounds of actions as tensors of one shape, in torch's default dtype.

    Args:
        op: Who asks, for errors.
        low, high: Numbers, arrays or tensors, of one number or ``[action_dim]``.

    Returns:
        Both, ``[]`` or ``[action_dim]``.

    Raises:
        ValueError: They are not finite, not ``low < high``, or of no such shape.
    """
    dtype = torch.get_default_dtype()
    low, high = (torch.as_tensor(x).to(dtype) for x in (low, high))
    if {tuple(low.shape), tuple(high.shape)} - {(), (max(low.numel(), high.numel()),)}:
        raise ValueError(
            f"{op}: low and high must be numbers or [action_dim], "
            f"got {list(low.shape)} and {list(high.shape)}"
        )
    if not ((high - low).isfinite().all() and (low < high).all()):
        raise ValueError(
            f"{op}: low must be below high, both finite, got {low.tolist()} and {high.tolist()}"
        )
    low, high = torch.broadcast_tensors(low, high)
    return low.clone(), high.clone()

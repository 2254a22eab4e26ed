"""What arguments are checked for, in one wording."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor


def check_shape(op: str, name: str, x: Tensor, shape: torch.Size) -> None:
    """Nothing is broadcast: ``[batch]`` with ``[batch, 1]`` would give ``[batch, batch]``."""
    if x.shape != shape:
        raise ValueError(f"{op}: {name} must have shape {list(shape)}, got {list(x.shape)}")


def check_dims(op: str, name: str, x: Tensor, *last: str) -> None:
    """``x`` must have the dimensions named, after any others."""
    if x.dim() < len(last):
        raise ValueError(f"{op}: {name} must be [..., {', '.join(last)}], got {list(x.shape)}")


def check_mask(op: str, name: str, mask: Tensor, shape: torch.Size) -> None:
    check_shape(op, name, mask, shape)
    if mask.dtype is not torch.bool:
        raise TypeError(f"{op}: {name} must be bool, got {mask.dtype}")


def check_positive(op: str, name: str, x: float) -> None:
    if not x > 0:
        raise ValueError(f"{op}: {name} must be above 0, got {x}")


@overload
def number(op: str, name: str, x: Tensor) -> Tensor: ...
@overload
def number(op: str, name: str, x: Tensor | float) -> Tensor | float: ...
def number(op: str, name: str, x: Tensor | float) -> Tensor | float:
    """``x``, a tensor as ``[]``: that may be on the CPU, whatever it is multiplied with."""
    if not isinstance(x, Tensor):
        return x
    if x.numel() != 1:
        raise ValueError(f"{op}: {name} must be one number, got shape {list(x.shape)}")
    return x.reshape(())

"""What every op registers beside its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from machin_fast import _extension as _extension  # registers the ops themselves

_library = torch.library.Library("machin_fast", "IMPL")


def register_fake(op: str, fake: Callable[..., Any]) -> None:
    """Enters the shape rule of ``op``."""
    torch.library.register_fake(f"machin_fast::{op}", fake, lib=_library)


def writes_in_place(op: str) -> None:
    """``op`` returns nothing and writes into its arguments."""
    register_fake(op, lambda *args, **kwargs: None)


def no_gradient(*ops: str) -> None:
    """Results of ``ops`` carry no gradient: autograd is passed by, at no cost per call."""
    for op in ops:
        _library.impl(op, torch.library.fallthrough_kernel, "Autograd")


def register_gradient(
    op: str,
    setup_context: Callable[..., None],
    backward: Callable[..., tuple[Tensor | None, ...]],
) -> None:
    """Enters the gradient of ``op``."""
    torch.library.register_autograd(
        f"machin_fast::{op}", backward, setup_context=setup_context, lib=_library
    )


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd records. If not, a differentiable op is called by its ``out`` form, which
    spares autograd's Python layer (5.4 us a small call instead of 8.3)."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """What an op returns that is shaped like ``x``: always contiguous."""
    return torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)

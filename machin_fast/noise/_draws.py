"""Random numbers where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def draw(
    sample: Callable[..., Tensor],
    shape: Sequence[int],
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws on ``device``, or on the generator's, where the numbers are the same for all devices.

    Args:
        sample: ``torch.rand`` or ``torch.randn``.
        shape: Of the numbers.
        device: Of the result. None: the generator's, or torch's default.
        dtype: Of the result. None: torch's default.
        generator: Of the numbers. None: torch's own one of the device.

    Returns:
        The numbers.
    """
    if generator is None:
        return sample(shape, device=device, dtype=dtype)
    numbers = sample(shape, device=generator.device, dtype=dtype, generator=generator)
    return numbers if device is None else numbers.to(device)


def check_spread(op: str, name: str, value: float) -> None:
    """Refuses a standard deviation below 0."""
    if not value >= 0:
        raise ValueError(f"{op}: {name} must be at least 0, got {value}")


def check_bounds(op: str, names: str, low: float, high: float) -> None:
    """Refuses bounds in the wrong order."""
    if not low <= high:
        raise ValueError(f"{op}: {names} must be in order, got {low} and {high}")

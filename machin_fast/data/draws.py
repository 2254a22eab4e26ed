"""Random rows as functions of a seed: the same on every device, and wherever a run is resumed."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast._extension import library


def uniform_rows(seed: int, call: int, n: int, low: int, high: int, device: torch.device) -> Tensor:
    """Draws with replacement, as csrc/bindings/replay.cpp does.

    Source: SplitMix64; Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195.

    Args:
        seed, call: Which draws.
        n: How many.
        low, high: Rows are in [low, high).
        device: Where to.

    Returns:
        ``[n]``, int64.
    """
    step = torch.arange(1, n + 1, device=device)
    bits = _mix(library.seed_of_call(seed, call) + step * _signed(0x9E3779B97F4A7C15))
    fraction = _shift(bits, 11).double() * 2.0**-53
    return low + (fraction * (high - low)).long().clamp_(max=high - low - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, count: int) -> Tensor:
    """To the right, as if ``z`` was unsigned."""
    return (z >> count) & ((1 << (64 - count)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word

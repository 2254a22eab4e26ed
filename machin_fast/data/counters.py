"""Whole numbers in a tensor, so that they are shared and saved as the rest of a memory is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SEED, DRAWS, APPENDED, OLDEST, STALE = range(5)
"""Places of the numbers; csrc/bindings/replay.cpp has them, too."""


def _word(place: int) -> Any:
    def read(self: Counters) -> int:
        value: int = self.words[place]
        return value

    def write(self: Counters, value: int) -> None:
        self.words[place] = value

    return property(read, write)


class Counters:
    """What a replay counts.

    Args:
        seed: Of the draws.

    Attributes:
        seed: Of the draws.
        draws: Number of draws made.
        appended: Number of rows ever appended.
        oldest: Number of the oldest row that is there.
        stale: Number of updates that came too late.
        tensor: All of them, ``[5]`` int64.
        words: The memory of the tensor; several times quicker still than the attributes.
    """

    seed = _word(SEED)
    draws = _word(DRAWS)
    appended = _word(APPENDED)
    oldest = _word(OLDEST)
    stale = _word(STALE)

    def __init__(self, seed: int) -> None:
        self._hold(torch.tensor([seed, 0, 0, 0, 0]))

    def _hold(self, tensor: Tensor) -> None:
        self.tensor = tensor
        # Ten times quicker than an element of the tensor.
        self.words: Any = memoryview(tensor.numpy())  # type: ignore[arg-type]

    def share(self) -> None:
        """Moves them to memory that processes share."""
        self._hold(self.tensor.share_memory_())

    def __getstate__(self) -> Tensor:
        return self.tensor

    def __setstate__(self, tensor: Tensor) -> None:
        self._hold(tensor)

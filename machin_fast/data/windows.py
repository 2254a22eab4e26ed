"""Rows and sequences of rows, fetched by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from machin_fast.data.batch import Batch


class Source(Protocol):
    """What rows are fetched from, by their numbers: a trajectory or a replay."""

    def __len__(self) -> int:
        """Number of rows that are there."""

    @property
    def oldest(self) -> int:
        """Number of the first row that is there."""

    def turn(self) -> AbstractContextManager[None]:
        """While it is held, no other process changes anything."""

    def rows(self, index: Tensor) -> Batch:
        """Rows of these numbers, int64 of any shape."""

    def left(self, index: Tensor) -> Tensor:
        """Steps from each row to the end of its segment, itself included."""

    def segment_starts(self) -> Tensor:
        """First rows of all segments."""

    def window_starts(self, length: int) -> Tensor:
        """Rows that a window may begin with: those with ``length`` steps left in their segment,
        and the first of each segment that is shorter."""


def fetch_rows(source: Source, index: Tensor, weight: Tensor | None = None) -> Batch:
    """Fetches rows ``[n]``; ``weight`` is what the batch shall say, ones by default."""
    batch = source.rows(index)
    if weight is not None:
        batch.weight = weight.to(batch.index.device)
    return batch


def fetch_windows(
    source: Source,
    start: Tensor,
    length: int,
    *,
    weight: Tensor | None = None,
    burn_in: int = 0,
    update_priority: Callable[[Tensor, Tensor], None] | None = None,
) -> Batch:
    """Fetches windows, side by side.

    Args:
        source: Where from.
        start: ``[n]``, int64, their first rows.
        length: Steps, at least 1.
        weight, burn_in, update_priority: Of the batch.

    Returns:
        The batch, ``[length, n, ...]``. Behind the end of a segment its last row is repeated (no
        zeros, which may be no valid values), and ``mask`` is False.
    """
    left = source.left(start).clamp(max=length)
    step = torch.arange(length, device=left.device)[:, None]
    rows = start.to(left.device) + torch.minimum(step, left - 1)
    return source.rows(rows).as_sequences(
        start, step < left, weight=weight, burn_in=burn_in, update_priority=update_priority
    )


def fetch_chains(source: Source, start: Tensor) -> Batch:
    """Fetches whole segments, several after one another in each sequence.

    Args:
        source: Where from.
        start: ``[n, k]``, int64, first rows of the k segments of each sequence.

    Returns:
        The batch, ``[T, n, ...]``, T the longest sequence, padded as windows are.
    """
    left = source.left(start)
    start = start.to(left.device)
    behind = left.cumsum(1)  # where each segment ends in its sequence
    length = behind[:, -1:]
    longest = int(length.max()) if length.numel() else 0
    step = torch.arange(longest, device=left.device).expand(start.shape[0], -1)
    at = torch.minimum(step, length - 1)
    segment = torch.searchsorted(behind, at, right=True)
    rows = (start - behind + left).gather(1, segment) + at
    return source.rows(rows.t()).as_sequences(start[:, 0], (step < length).t())

"""The quick way through a replay on the CPU: one compiled call for each of its operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from machin_fast._extension import library
from machin_fast.data.batch import Batch
from machin_fast.data.counters import Counters
from machin_fast.data.priorities import Priorities
from machin_fast.data.table import Table


class DirectReplay:
    """Appends to and samples from a table of tensors, past torch's dispatcher.

    Args:
        table: All its columns are tensors.
        shown: Names of the columns that batches show.
        counters: Of the replay.
        priorities: Of the replay, if it has some.
        batches: Number of batches that are in memory at once.
        update_priority: For the batches.
    """

    def __init__(
        self,
        table: Table,
        shown: Sequence[str],
        counters: Counters,
        priorities: Priorities | None,
        batches: int,
        update_priority: Callable[[Tensor, Tensor], None] | None,
    ) -> None:
        self._capacity = table.capacity
        self._like = table.tensors
        self._names = tuple(table.tensors)
        self._columns = library.views(tuple(table.tensors.values()))
        self._shown = shown
        self._counters = counters
        self._priorities = priorities
        self._nodes = None if priorities is None else priorities.nodes
        self._update_priority = update_priority
        self._ring: list[tuple[Batch, Any]] = []
        self._batches = batches
        self._rows = 0
        self._next = 0

    def append(self, columns: Mapping[str, Any]) -> bool:
        """Appends rows if they fit and need no conversion, else changes nothing.

        Returns:
            Whether they were appended.
        """
        if tuple(columns) != self._names:
            return False
        counters = self._counters
        appended, capacity = counters.appended, self._capacity
        mass = 0.0 if self._priorities is None else self._priorities.default_mass()
        try:
            n = library.replay_append(
                self._columns, tuple(columns.values()), appended % capacity, self._nodes, mass
            )
        except RuntimeError:
            return False  # the long way tells what is wrong
        if n is None:
            return False
        appended += n
        counters.appended = appended
        if appended - counters.oldest > capacity:
            counters.oldest = appended - capacity
        return True

    def sample(self, n: int, beta: float) -> Batch:
        """Draws and fetches n rows into memory that was used before."""
        if n != self._rows:
            with torch.inference_mode(False):  # autograd must be able to use the memory
                self._ring = [self._new_batch(n) for _ in range(self._batches)]
            self._rows = n
        self._next = (self._next + 1) % self._batches
        batch, memory = self._ring[self._next]
        counters = self._counters
        library.replay_sample(
            self._columns, memory, self._nodes, counters.seed, counters.draws, counters.oldest,
            counters.appended, beta,
        )  # fmt: skip
        counters.draws += 1
        return batch

    def _new_batch(self, n: int) -> tuple[Batch, Any]:
        columns = {name: x.new_empty((n, *x.shape[1:])) for name, x in self._like.items()}
        slot, index = torch.empty((2, n), dtype=torch.int64)
        weight, mass = torch.empty((2, n), dtype=torch.float32)
        memory = library.views((slot, index, weight, mass, *columns.values()))
        shown = {name: columns[name] for name in self._shown}
        return Batch(shown, index, weight, update_priority=self._update_priority), memory

"""The quick way through a replay on the CPU: one compiled call for each of its operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from machin_fast._extension import library
from machin_fast.data.batch import Batch
from machin_fast.data.columns import empty_rows
from machin_fast.data.counters import APPENDED, DRAWS, OLDEST, SEED, Counters
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

    Attributes:
        append: Appends the rows of a dict if they fit and need no conversion, else changes
            nothing; returns whether they were appended.
        batch_size: Rows of the last batch; before the first NaN, which equals nothing.
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
        self._like = table.tensors
        self._names = tuple(table.tensors)
        self._columns = library.views(tuple(table.tensors.values()))
        self._shown = shown
        self._counters = counters
        self._priorities = priorities
        self._nodes = None if priorities is None else priorities.nodes
        self._update_priority = update_priority
        self.prepare()
        self._ring: list[tuple[Batch, Any]] = []
        self._batches = batches
        self.batch_size: float = math.nan
        self._next = 0

    def prepare(self) -> None:
        """Makes ``append``, which knows alpha and epsilon as they are now."""
        tree = self._priorities
        self.append: Callable[[dict[str, Any]], bool] = library.replay_appender(
            self._names, self._columns, self._counters.tensor, self._nodes,
            tree and tree.largest, tree and tree.alpha, tree and tree.epsilon,
        )  # fmt: skip

    def sample(self, n: int, beta: float) -> Batch:
        """Draws and fetches n rows, of a memory that holds some, into memory used before."""
        if n != self.batch_size:
            with torch.inference_mode(False):  # autograd must be able to use the memory
                self._ring = [self._new_batch(n) for _ in range(self._batches)]
            self.batch_size = n
        self._next = (self._next + 1) % self._batches
        batch, memory = self._ring[self._next]
        words = self._counters.words
        draws = words[DRAWS]
        library.replay_sample(
            self._columns, memory, self._nodes, words[SEED], draws, words[OLDEST],
            words[APPENDED], beta,
        )  # fmt: skip
        words[DRAWS] = draws + 1
        return batch

    def _new_batch(self, n: int) -> tuple[Batch, Any]:
        columns = {name: empty_rows(x, n) for name, x in self._like.items()}
        slot, index = torch.empty((2, n), dtype=torch.int64)
        weight, mass = torch.empty((2, n), dtype=torch.float32)
        memory = library.views((slot, index, weight, mass, *columns.values()))
        shown = {name: columns[name] for name in self._shown}
        known = None if self._priorities is None else weight  # else all are 1
        return Batch(shown, index, known, update_priority=self._update_priority), memory

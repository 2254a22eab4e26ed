"""Replay memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from machin_fast import ops
from machin_fast._extension import direct_calls, library
from machin_fast.data.columns import new_columns
from machin_fast.data.sum_tree import SumTree
from machin_fast.functional import importance_weight


class Batch:
    """Rows that a replay drew. Columns are attributes, ``batch.state``, and items by name.

    Attributes:
        columns: For each name ``[n, ...]``.
        index: ``[n]``, int64, which rows these are: their numbers, counted from the first row
            that was ever appended.
        weight: ``[n]``, float32, importance weights in (0, 1].
    """

    def __init__(self, columns: dict[str, Tensor], index: Tensor, weight: Tensor) -> None:
        self.__dict__.update(columns)
        self.columns = columns
        self.index = index
        self.weight = weight

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def __len__(self) -> int:
        """Number of rows."""
        return self.index.shape[0]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...


_RESERVED = frozenset(("columns", "index", "weight"))


@dataclass(frozen=True)
class _BatchMemory:
    """What one batch is drawn into."""

    slot: Tensor
    mass: Tensor
    probability: Tensor
    columns: dict[str, Tensor]
    column_list: list[Tensor]


class Replay:
    """A ring of transitions, drawn from uniformly or in proportion to priorities.

    ``append`` creates the columns from what it is first given. When the ring is full, new rows
    take the place of the oldest. Importance weights are divided by the largest possible one, that
    of the least likely row in the memory, so they are the same whatever else is in the batch.

    The columns of a batch are reused memory: they change with the ``batches``-th ``sample`` after
    it. Clone what must live longer. ``index`` and ``weight`` are fresh.

    With the same seed and the same calls, the same rows are drawn, bit for bit.

    Source: Schaul et al. 2016, arXiv:1511.05952, proportional variant, algorithm 1.

    Args:
        capacity: Most rows to hold.
        device: Where the columns and priorities live.
        priority: "step" draws each row in proportion to its priority; None draws uniformly.
        alpha: Exponent of priorities, at least 0; 0 draws uniformly. May be changed at any time,
            for the priorities that come then.
        beta: Exponent of importance weights, in [0, 1]. May be changed at any time.
        epsilon: Added to each priority, so that a row with priority 0 is still drawn at times.
        seed: Of the draws. None: from torch's default generator.
        batches: Number of batches that are in memory at once, at least 1.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: ``capacity`` or ``batches`` is no int.
    """

    def __init__(
        self,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        priority: Literal["step"] | None = None,
        alpha: float = 0.6,
        beta: float = 0.4,
        epsilon: float = 1e-6,
        seed: int | None = None,
        batches: int = 2,
    ) -> None:
        _check_count("capacity", capacity)
        _check_count("batches", batches)
        _check_not_negative("alpha", alpha)
        _check_not_negative("epsilon", epsilon)
        if not 0 <= beta <= 1:
            raise ValueError(f"Replay: beta must be in [0, 1], got {beta}")
        if priority not in (None, "step"):
            raise ValueError(f"Replay: priority must be 'step' or None, got {priority!r}")
        self.capacity = capacity
        self.device = torch.device(device)
        self.alpha = alpha
        self.beta = beta
        self.epsilon = epsilon
        self.stale_updates = 0
        """Rows that ``update_priority`` skipped, as others had taken their place."""
        self.max_priority = 1.0
        """Largest priority ever set, before ``alpha``; new rows enter with it."""
        self._appended = 0
        self._columns: dict[str, Tensor] = {}
        self._column_list: list[Tensor] = []
        self._direct = direct_calls and self.device.type == "cpu"
        self._batches = batches
        self._batch_rows = 0
        self._memories: Iterator[_BatchMemory] = iter(())
        if seed is None:
            seed = int(torch.randint(2**63 - 1, ()))
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._tree = (
            SumTree(capacity, device=self.device, minimum=True, seed=seed) if priority else None
        )

    def __len__(self) -> int:
        """Number of rows in the memory."""
        return min(self._appended, self.capacity)

    @property
    def columns(self) -> dict[str, Tensor]:
        """For each name the rows in the memory, ``[len(self), ...]``, a view of the ring."""
        return {name: column[: len(self)] for name, column in self._columns.items()}

    def append(self, /, **columns: Any) -> None:
        """Adds rows, with the largest priority so far. They are copied.

        Args:
            columns: For each name ``[n, ...]``, a tensor or array of any device; n is the same
                for all. The first call decides on names, dtypes and row shapes. Of more rows than
                ``capacity``, the last ones stay.

        Raises:
            ValueError: Names or shapes are not those of the first call, or lengths differ; then
                nothing is changed.
            TypeError: Something is no tensor or array, or of another dtype than at first; then
                nothing is changed.
            RuntimeError: A tensor shares memory with this replay; then nothing is changed.
        """
        rows = {name: self._to_rows(name, values) for name, values in columns.items()}
        if self._columns:
            _check_same_columns(rows, self._columns)
        n = _common_length(rows)
        if not self._columns:
            self._columns = new_columns(rows, self.capacity, self.device)
            self._column_list = list(self._columns.values())
        kept = min(n, self.capacity)
        first = (self._appended + n - kept) % self.capacity
        newest = [rows[name] if kept == n else rows[name][n - kept :] for name in self._columns]
        if self._direct:
            library.write_rows(self._column_list, newest, first)
        else:
            ops.write_rows_(self._column_list, newest, first)
        self._appended += n
        if self._tree is not None:
            slot = torch.arange(first, first + kept, device=self.device).remainder_(self.capacity)
            mass = (self.max_priority + self.epsilon) ** self.alpha
            self._tree.update_(slot, torch.full_like(slot, mass, dtype=torch.float32))

    def sample(self, n: int) -> Batch:
        """Draws rows, with replacement.

        Prioritized draws are stratified: the i-th comes from the i-th of n equal parts of all
        priorities.

        Args:
            n: Number of rows, at least 1.

        Returns:
            The batch; its columns are reused memory (see the class).

        Raises:
            ValueError: ``n`` is less than 1, or the memory is empty.
        """
        if n < 1:
            raise ValueError(f"Replay.sample: n must be at least 1, got {n}")
        if not len(self):
            raise ValueError("Replay.sample: the memory must hold at least 1 row, got 0")
        memory = self._next_memory(n)
        weight = self._draw(memory)
        if self._direct:
            library.gather_rows(self._column_list, memory.slot, memory.column_list)
        else:
            # Our own slots need no check, which on CUDA would wait for the device.
            ops.gather_rows(self._column_list, memory.slot, out=memory.column_list, check=False)
        return Batch(memory.columns, self._row_number(memory.slot), weight)

    @torch.no_grad()
    def update_priority(self, index: Tensor, priority: Tensor) -> None:
        """Sets priorities, most often the sizes of temporal-difference errors.

        Rows that were overwritten since they were drawn are skipped, and counted in
        ``stale_updates``. On CUDA this waits for the device.

        Args:
            index: ``[n]``, int64, from ``batch.index``. Of a row that comes twice the last
                priority stays.
            priority: ``[n]``, floating point, finite and not negative. ``alpha`` is applied here.

        Raises:
            ValueError: Shapes differ, a priority is NaN, infinite or negative, or the replay was
                made without priorities; then nothing is changed.
            TypeError: A dtype is not as listed above; then nothing is changed.
            IndexError: There never was such a row; then nothing is changed.
            RuntimeError: A priority is too large for sums of float32; then nothing is changed.
        """
        if self._tree is None:
            raise ValueError(
                "Replay.update_priority: the replay must have priorities, got none. "
                "Make it with Replay(..., priority='step')"
            )
        index, priority = self._to_priorities(index, priority)
        given = index.shape[0]
        if given == 0:
            return
        low, high = map(int, index.aminmax())
        least, most = map(float, priority.aminmax())
        if low < 0 or high >= self._appended:
            wrong = (index < 0) | (index >= self._appended)
            raise IndexError(
                f"Replay.update_priority: index must be in [0, {self._appended}), "
                f"got {_first(wrong, index)}"
            )
        if not 0 <= least <= most < math.inf:  # NaN is neither
            wrong = ~((priority >= 0) & priority.isfinite())
            raise ValueError(
                "Replay.update_priority: priority must be finite and not negative, "
                f"got {_first(wrong, priority)}"
            )
        if low < self._oldest:
            alive = index >= self._oldest
            index, priority = index[alive], priority[alive]
            most = max(priority.tolist(), default=0.0)
        self._tree.update_(index % self.capacity, (priority + self.epsilon) ** self.alpha)
        self.stale_updates += given - index.shape[0]
        self.max_priority = max(self.max_priority, most)

    @property
    def _oldest(self) -> int:
        """Number of the oldest row in the memory."""
        return self._appended - len(self)

    def _to_rows(self, name: str, values: Any) -> Tensor:
        if name in _RESERVED:
            raise ValueError(f"Replay.append: {name} must not be a column, batches have their own")
        if not isinstance(values, Tensor):
            try:
                values = torch.as_tensor(values)
            except (TypeError, ValueError, RuntimeError) as error:
                raise TypeError(
                    f"Replay.append: {name} must be a tensor or an array of numbers, "
                    f"got {type(values).__name__} ({error})"
                ) from error
        if not values.dim():
            raise ValueError(f"Replay.append: {name} must be [n, ...], got a single value")
        return values.to(self.device).contiguous()

    def _to_priorities(self, index: Tensor, priority: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(index, device=self.device)
        priority = torch.as_tensor(priority, device=self.device)
        if index.dtype != torch.int64:
            raise TypeError(f"Replay.update_priority: index must be int64, got {index.dtype}")
        if not priority.is_floating_point():
            raise TypeError(
                f"Replay.update_priority: priority must be floating point, got {priority.dtype}"
            )
        if index.dim() != 1:
            raise ValueError(f"Replay.update_priority: index must be [n], got {list(index.shape)}")
        if priority.shape != index.shape:
            raise ValueError(
                f"Replay.update_priority: priority must have shape {list(index.shape)}, "
                f"got {list(priority.shape)}"
            )
        return index, priority.float()

    def _draw(self, memory: _BatchMemory) -> Tensor:
        """Draws slots; returns their importance weights."""
        n = memory.slot.shape[0]
        if self._tree is None:
            torch.randint(len(self), (n,), generator=self._generator, out=memory.slot)
            return torch.ones(n, dtype=torch.float32, device=self.device)
        self._tree.sample(n, out=(memory.slot, memory.mass, memory.probability))
        least = ops.sum_tree_minimum(self._tree.nodes, capacity=self.capacity)
        # Masses serve as probabilities: their total cancels out.
        return importance_weight(memory.mass, len(self), self.beta, least)

    def _row_number(self, slot: Tensor) -> Tensor:
        if self._oldest == 0:
            return slot.clone()
        return (slot - self._oldest).remainder_(self.capacity).add_(self._oldest)

    def _next_memory(self, n: int) -> _BatchMemory:
        if n != self._batch_rows:
            with torch.inference_mode(False):  # autograd must be able to use it
                memories = [self._new_memory(n) for _ in range(self._batches)]
            self._memories = itertools.cycle(memories)
            self._batch_rows = n
        return next(self._memories)

    def _new_memory(self, n: int) -> _BatchMemory:
        columns = {
            name: column.new_empty((n, *column.shape[1:])) for name, column in self._columns.items()
        }
        return _BatchMemory(
            slot=torch.empty(n, dtype=torch.int64, device=self.device),
            mass=torch.empty(n, dtype=torch.float32, device=self.device),
            probability=torch.empty(n, dtype=torch.float32, device=self.device),
            columns=columns,
            column_list=list(columns.values()),
        )


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"Replay: {name} must be an int, got {value!r}")
    if value < 1:
        raise ValueError(f"Replay: {name} must be at least 1, got {value}")


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"Replay: {name} must be finite and at least 0, got {value}")


def _check_same_columns(rows: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> None:
    if rows.keys() != columns.keys():
        raise ValueError(
            f"Replay.append: columns must be {', '.join(columns)}, got {', '.join(rows) or 'none'}"
        )
    for name, column in columns.items():
        dtype, shape = rows[name].dtype, rows[name].shape[1:]
        if dtype != column.dtype:
            raise TypeError(f"Replay.append: {name} must be {column.dtype}, got {dtype}")
        if shape != column.shape[1:]:
            raise ValueError(
                f"Replay.append: {name} must have rows of shape {list(column.shape[1:])}, "
                f"got {list(shape)}"
            )


def _common_length(rows: Mapping[str, Tensor]) -> int:
    if not rows:
        raise ValueError("Replay.append: columns must be at least 1, got 0")
    first, *others = rows
    n = rows[first].shape[0]
    for name in others:
        if rows[name].shape[0] != n:
            raise ValueError(
                f"Replay.append: {name} must have {n} rows like {first}, got {rows[name].shape[0]}"
            )
    return n


def _first(wrong: Tensor, values: Tensor) -> str:
    position = int(wrong.int().argmax())
    return f"{values[position].item()} at position {position}"

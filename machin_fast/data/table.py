"""A table: rows of columns in preallocated memory, written in ring order and read by slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from machin_fast import ops
from machin_fast._extension import direct_calls, library
from machin_fast.data.columns import Column, Memory, check_same_columns, new_columns


class Table:
    """Columns of ``capacity`` rows by name, made by the first ``write``.

    Tensors live in preallocated memory, small ones of a row side by side. A column of lists holds
    objects; its rows are none where nothing was written.

    Args:
        capacity: Number of rows.
        device: Where tensors live.
        memory: Of the CPU: plain, pinned, or shared by processes.

    Attributes:
        columns: For each name ``[capacity, ...]`` or a list of ``capacity`` objects.
    """

    def __init__(self, capacity: int, device: torch.device, *, memory: Memory = "plain") -> None:
        self.capacity = capacity
        self.device = device
        self.memory: Memory = memory
        self.columns: dict[str, Column] = {}
        self._tensors: dict[str, Tensor] = {}
        self._lists: dict[str, list[Any]] = {}
        self._direct = direct_calls and device.type == "cpu"

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The columns that are tensors."""
        return self._tensors

    @property
    def lists(self) -> dict[str, list[Any]]:
        """The columns that are lists."""
        return self._lists

    def create(self, like: Mapping[str, Column]) -> None:
        """Makes the columns.

        Args:
            like: For each name some rows, for dtype and row shape.
        """
        tensors = {name: rows for name, rows in like.items() if isinstance(rows, Tensor)}
        made = new_columns(tensors, self.capacity, self.device, self.memory)
        self.columns = {
            name: made[name] if name in made else [None] * self.capacity for name in like
        }
        self._sort_out()

    def check(self, op: str, rows: Mapping[str, Column]) -> None:
        """Refuses rows that do not belong here; any rows while there are no columns.

        Raises:
            ValueError: Names or row shapes differ.
            TypeError: Dtypes or kinds differ.
        """
        if self.columns:
            check_same_columns(op, rows, self.columns)

    def write(self, rows: Mapping[str, Column], start: int) -> None:
        """Puts row i at slot ``(start + i) % capacity``. They are copied.

        Args:
            rows: All columns, checked, at most ``capacity`` rows.
            start: In [0, capacity).

        Raises:
            RuntimeError: A tensor shares memory with this table; then nothing is changed.
        """
        if not self.columns:
            self.create(rows)
        if self._tensors:
            new = [_dense(rows[name]) for name in self._tensors]
            write = library.write_rows if self._direct else ops.write_rows_
            write(list(self._tensors.values()), new, start)
        for name, column in self._lists.items():
            values = rows[name]
            head = min(len(values), self.capacity - start)
            column[start : start + head] = values[:head]
            column[: len(values) - head] = values[head:]

    def read(self, slot: Tensor, out: Mapping[str, Tensor] | None = None) -> dict[str, Column]:
        """Fetches rows.

        Args:
            slot: ``[n]``, int64, in [0, capacity), on the table's device.
            out: For each column that is a tensor ``[n, ...]``, contiguous, to write into.

        Returns:
            For each name ``[n, ...]``, or a list of n objects.

        Raises:
            RuntimeError: A slot is out of range (on CUDA only with a check that waits).
        """
        found: dict[str, Column] = {}
        if self._tensors:
            stored = list(self._tensors.values())
            if out is not None:
                fetched = [out[name] for name in self._tensors]
                ops.gather_rows(stored, slot, out=fetched, check=not slot.is_cuda)
            else:
                fetched = ops.gather_rows(stored, slot, check=not slot.is_cuda)
            found = dict(zip(self._tensors, fetched, strict=True))
        if self._lists:
            places = slot.tolist()
            for name, column in self._lists.items():
                found[name] = [column[place] for place in places]
        return {name: found[name] for name in self.columns}

    def to_list(self, name: str) -> None:
        """Turns a column of tensors into one of objects, for rows that differ in shape.

        Args:
            name: Of a column that is a tensor.
        """
        column = self._tensors[name]
        self.columns[name] = [row.clone() for row in column]
        self._sort_out()

    def nbytes(self) -> int:
        """Bytes of memory of all tensors, gaps included."""
        storages = {x.untyped_storage().data_ptr(): x for x in self._tensors.values()}
        return sum(x.untyped_storage().nbytes() for x in storages.values())

    def __getstate__(self) -> dict[str, Any]:
        if self.memory == "shared":
            return vars(self)
        # A pickled field of a record would take the whole record with it.
        own = {name: x.clone() if isinstance(x, Tensor) else x for name, x in self.columns.items()}
        return {**vars(self), "columns": own, "_tensors": {}, "_lists": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.memory != "shared" and self.columns:
            whole = self.columns
            self.create(whole)
            self.write(whole, 0)

    def _sort_out(self) -> None:
        self._tensors = {k: v for k, v in self.columns.items() if isinstance(v, Tensor)}
        self._lists = {k: v for k, v in self.columns.items() if isinstance(v, list)}


def _dense(rows: Column) -> Tensor:
    assert isinstance(rows, Tensor)
    return rows.contiguous()

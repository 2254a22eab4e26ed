"""Where a buffer keeps its transitions."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from machin_fast.buffers.buffer_state import rows_of, rows_state
from machin_fast.buffers.rows import Rows, misfits
from machin_fast.data.table import Table
from machin_fast.transition import TransitionBase

_FIRST_CAPACITY = 256


class TransitionStorageBase(ABC):
    """What a buffer needs of a storage: store episodes, find transitions by their handles.

    A storage belongs to one process and one buffer. It keeps copies. A handle is any hashable
    object; one that is given out again stands for the new transition, the old one is gone. A
    storage can be pickled.
    """

    @abstractmethod
    def store_episode(self, episode: list[TransitionBase]) -> Sequence[Hashable]:
        """Stores the steps of one episode.

        Args:
            episode: At least one transition.

        Returns:
            A handle for each.
        """

    @abstractmethod
    def clear(self) -> None:
        """Forgets all transitions."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of transitions."""

    @abstractmethod
    def __getitem__(self, key: Any) -> TransitionBase:
        """The transition of a handle."""

    def state_dict(self) -> dict[str, Any]:
        """Everything, for ``load_state_dict``. Storages of buffers that are saved have both.

        Returns:
            Copies; for files, what ``machin_fast.utils.state_file`` takes.

        Raises:
            TypeError: This storage has none.
        """
        raise self._without("state_dict")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave; handles stand for the same transitions.

        Args:
            state: Of ``state_dict``.

        Raises:
            TypeError: This storage cannot.
        """
        raise self._without("load_state_dict")

    def _without(self, method: str) -> TypeError:
        name = type(self).__name__
        return TypeError(
            f"{name}.{method}: a storage must have state_dict and load_state_dict for that, "
            f"got {name} without. Write them, or use the built-in storage"
        )


class TransitionStorageBasic(TransitionStorageBase):
    """A ring of transitions in columns; handles are places in it, 0 to ``max_size`` - 1.

    Transitions of one class and one set of names share columns, tensors as rows of one tensor,
    numbers as they are. Where values of one attribute differ in shape, dtype or type, it becomes a
    list of objects; where names or classes differ, the whole storage becomes a list of
    transitions. That is slower, and nothing else. Memory grows with what is stored.

    Args:
        max_size: Most transitions to hold.
        device: Where tensors, but for those in custom attributes, are kept.

    Attributes:
        index: The place of the next transition.

    Raises:
        TypeError: ``max_size`` is no int.
        ValueError: It is less than 1.
    """

    def __init__(self, max_size: int, device: str | torch.device = "cpu") -> None:
        if not isinstance(max_size, int | np.integer) or isinstance(max_size, bool):
            raise TypeError(
                f"{type(self).__name__}: max_size must be an int, got {type(max_size).__name__}"
            )
        if max_size < 1:
            raise ValueError(f"{type(self).__name__}: max_size must be at least 1, got {max_size}")
        self.max_size = int(max_size)
        self.device = device
        self.index = 0
        self._size = 0
        self._table = Table(min(self.max_size, _FIRST_CAPACITY), torch.device(device))
        self._stored = Rows(None, {}, {})  # the table's columns, rows not yet written included

    def __len__(self) -> int:
        """Number of transitions."""
        return self._size

    def __getitem__(self, key: int) -> TransitionBase:
        """A copy of the transition at a place.

        Raises:
            IndexError: There is none.
        """
        if not 0 <= key < self._size:
            raise IndexError(f"{type(self).__name__}: key must be in [0, {self._size}), got {key}")
        return copy.deepcopy(self.read(np.array([key])).transitions()[0])

    @property
    def data(self) -> list[TransitionBase]:
        """All transitions in the order of their handles. Tensors are copies."""
        return self.read(np.arange(self._size)).transitions() if self._size else []

    def store_episode(self, episode: list[TransitionBase]) -> list[int]:
        """Stores the steps of one episode.

        Args:
            episode: 1 to ``max_size`` transitions.

        Returns:
            A handle for each.

        Raises:
            ValueError: The episode is too long; then nothing is changed.
        """
        first = self.index
        self.store(Rows.whole(episode))
        return [place % self.max_size for place in range(first, first + len(episode))]

    def store(self, rows: Rows) -> None:
        """Stores transitions, as ``store_episode`` does.

        Args:
            rows: Columns on the storage's device, or a list of transitions; at most ``max_size``.

        Raises:
            ValueError: They are too many; then nothing is changed.
        """
        n = len(rows)
        if n > self.max_size:
            raise ValueError(
                f"{type(self).__name__}: Failed to store episode. Its length must be at most "
                f"{self.max_size}, the size of the storage, got {n}"
            )
        if rows.layout is None:
            rows = Rows.copied(rows.transitions(), self._table.device, self._stored.layout)
        self._fit(rows)
        self._table.write(rows.columns, self.index)
        self.index = (self.index + n) % self.max_size
        self._size = min(self._size + n, self.max_size)

    def read(self, handles: np.ndarray[Any, Any]) -> Rows:
        """Fetches transitions, several times faster than one by one.

        Args:
            handles: ``[n]``, int64, of transitions that are there.

        Returns:
            Copies of tensors, and the stored objects.
        """
        slot = torch.from_numpy(handles).to(self._table.device)
        return Rows(self._stored.layout, self._stored.kinds, self._table.read(slot))

    def clear(self) -> None:
        """Forgets all transitions; the next one has handle 0."""
        self.index = self._size = 0
        for column in self._table.lists.values():
            column[:] = [None] * len(column)

    def state_dict(self) -> dict[str, Any]:
        """Everything, for ``load_state_dict``, as ``Buffer.state_dict`` returns it."""
        return {
            "max_size": self.max_size,
            "index": self.index,
            "size": self._size,
            **rows_state(self._stored.head(self._size)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave.

        Args:
            state: Of a storage of the same size, on any device.

        Raises:
            ValueError: It was of another size; then nothing is changed.
        """
        if state["max_size"] != self.max_size:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: max_size must be {self.max_size}, "
                f"got {state['max_size']}"
            )
        rows = rows_of(state, self._table.device)
        if rows.columns:
            self._rebuild(rows, min(self.max_size, max(state["size"], _FIRST_CAPACITY)))
        else:
            self.clear()
        self.index, self._size = state["index"], state["size"]

    def _fit(self, rows: Rows) -> None:
        """Makes the table able to take ``rows``, and them what it can take."""
        capacity = self._table.capacity
        needed = min(self.index + len(rows), self.max_size)
        if needed > capacity:
            capacity = min(max(needed, 2 * capacity), self.max_size)
        odd = misfits(rows, self._stored)
        if not odd and odd is not None and capacity == self._table.capacity:
            return
        if odd != [] and not self._size:
            self._rebuild(rows.head(0), capacity)
            return
        stored = self._stored.head(self._size)
        if odd is None:
            rows.loosen_all()
            stored.loosen_all()
        for name in odd or ():
            rows.loosen(name)
            stored.loosen(name)
        if stored.kinds != self._stored.kinds or capacity != self._table.capacity:
            self._rebuild(stored, capacity)

    def _rebuild(self, stored: Rows, capacity: int) -> None:
        """Moves what is stored, in its present form, into another table."""
        table = Table(capacity, self._table.device)
        table.create(stored.columns)
        if len(stored):
            table.write(stored.columns, 0)
        self._table = table
        self._stored = Rows(stored.layout, stored.kinds, table.columns)

    def __getstate__(self) -> dict[str, Any]:
        stored = self._stored.head(self._size)
        for name, column in stored.columns.items():
            if isinstance(column, Tensor):
                stored.columns[name] = column.clone()  # without the rest of the table
        return {**vars(self), "_table": self._table.capacity, "_stored": stored}

    def __setstate__(self, state: dict[str, Any]) -> None:
        capacity, stored = state.pop("_table"), state.pop("_stored")
        vars(self).update(state)
        self._table = Table(capacity, torch.device(self.device))
        self._stored = Rows(None, {}, {})
        if stored.columns:
            self._rebuild(stored, capacity)

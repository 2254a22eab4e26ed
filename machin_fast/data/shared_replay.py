"""Replay memory that processes share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.multiprocessing
from torch import Tensor

from machin_fast.data.batch import Batch
from machin_fast.data.columns import as_columns
from machin_fast.data.replay import Replay
from machin_fast.data.trajectory import Trajectory


class SharedReplay(Replay):
    """A replay in memory that processes share: actors append, a learner samples.

    Give it to processes as an argument when they start (``torch.multiprocessing``, spawn or
    forkserver). Calls take turns. A process that dies within a call leaves the lock taken; others
    then fail after ``timeout``.

    Args:
        capacity: Most rows to hold.
        like: For each column some rows ``[n, ...]``, or a mapping of such, for dtypes and shapes;
            tensors or arrays.
        timeout: Seconds to wait for another process's call.
        settings: As of ``Replay``; no device, memory or frames.

    Raises:
        ValueError: A column is a list.
        As ``Replay``.
    """

    def __init__(
        self, capacity: int, *, like: Mapping[str, Any], timeout: float = 60.0, **settings: Any
    ) -> None:
        device = torch.device(settings.get("device", "cpu"))
        if device.type != "cpu":
            raise ValueError(f"SharedReplay: device must be cpu, got {device}")
        super().__init__(capacity, memory="shared", **settings)
        if self._frames is not None:
            raise ValueError("SharedReplay: frames must be none, got some")
        rows = as_columns("SharedReplay", like, self.device)
        for name, column in rows.items():
            if isinstance(column, list):
                raise ValueError(f"SharedReplay: {name} must be a tensor or array, got a list")
        self._timeout = timeout
        self._lock = torch.multiprocessing.get_context("spawn").RLock()
        super().append(**{name: column[:0] for name, column in rows.items()})
        self._counters.share()
        if self._priorities is not None:
            self._priorities.nodes.share_memory_()
            self._priorities.largest.share_memory_()

    def append(self, trajectory: Trajectory | None = None, /, **columns: Any) -> None:
        """As ``Replay.append``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("append"):
            super().append(trajectory, **columns)

    def sample(self, n: int) -> Batch:
        """As ``Replay.sample``; the batch's memory is this process's own.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("sample"):
            return super().sample(n)

    def sample_windows(self, n: int, *, burn_in: int = 0) -> Batch:
        """As ``Replay.sample_windows``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("sample_windows"):
            return super().sample_windows(n, burn_in=burn_in)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """As ``Replay.draw``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("draw"):
            return super().draw(n)

    def rows(self, index: Tensor) -> Batch:
        """As ``Replay.rows``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("rows"):
            return super().rows(index)

    def left(self, index: Tensor) -> Tensor:
        """As ``Replay.left``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("left"):
            return super().left(index)

    def segment_starts(self) -> Tensor:
        """As ``Replay.segment_starts``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("segment_starts"):
            return super().segment_starts()

    def window_starts(self, length: int) -> Tensor:
        """As ``Replay.window_starts``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("window_starts"):
            return super().window_starts(length)

    def masses(self) -> Tensor:
        """As ``Replay.masses``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("masses"):
            return super().masses()

    def update_priority(self, index: Tensor, priority: Tensor) -> None:
        """As ``Replay.update_priority``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("update_priority"):
            super().update_priority(index, priority)

    def clear(self) -> None:
        """As ``Replay.clear``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("clear"):
            super().clear()

    def state_dict(self) -> dict[str, Any]:
        """As ``Replay.state_dict``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("state_dict"):
            return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As ``Replay.load_state_dict``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("load_state_dict"):
            super().load_state_dict(state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """As ``Replay.save``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("save"):
            super().save(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """As ``Replay.load``.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        with self._turn("load"):
            super().load(path)

    @contextmanager
    def _turn(self, op: str) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._timeout):
            raise TimeoutError(
                f"SharedReplay.{op}: other processes must end their calls within "
                f"{self._timeout} s, got none that did. One may have died within a call"
            )
        try:
            yield
        finally:
            self._lock.release()

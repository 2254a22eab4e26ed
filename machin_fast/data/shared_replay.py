"""Replay memory that processes share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch.multiprocessing

from machin_fast.data.columns import as_columns
from machin_fast.data.replay import Replay

P = ParamSpec("P")
R = TypeVar("R")


def _in_turn(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[SharedReplay, P], R]:
    """The method, while no other process is in one."""

    @functools.wraps(method)
    def call(self: SharedReplay, /, *args: P.args, **keywords: P.kwargs) -> R:
        with self.turn():
            return method(self, *args, **keywords)

    return call


class SharedReplay(Replay):
    """A replay in memory that processes share: actors append, a learner samples.

    Give it to processes as an argument when they start (``torch.multiprocessing``, spawn or
    forkserver). Calls take turns: what ``Replay`` says of them holds here. What is set later on
    one process's object (``alpha``, ``beta``) is that process's own.

    A process that dies within a call leaves the lock taken, as nobody knows what it had done: the
    others then fail after ``timeout``, and none waits for ever.

    Args:
        capacity: Most rows to hold.
        like: For each column some rows ``[n, ...]``, or a mapping of such, for dtypes and shapes;
            tensors or arrays.
        timeout: Seconds to wait for other processes' calls.
        settings: As of ``Replay``; no device, memory or frames.

    Raises:
        ValueError: A column is a list, or a setting cannot be shared.
        TimeoutError: By each call: another process kept the lock.
    """

    def __init__(
        self, capacity: int, *, like: Mapping[str, Any], timeout: float = 60.0, **settings: Any
    ) -> None:
        for name in ("device", "memory", "frames"):
            if name in settings:
                raise ValueError(f"SharedReplay: {name} must not be given, got {settings[name]!r}")
        super().__init__(capacity, memory="shared", **settings)
        rows = as_columns("SharedReplay", like, self.device)
        for name, column in rows.items():
            if isinstance(column, list):
                raise ValueError(f"SharedReplay: {name} must be a tensor or array, got a list")
        self._timeout = timeout
        self._lock = torch.multiprocessing.get_context("spawn").RLock()
        self._counters.share()  # before rows come, as from then on it must stay where it is
        if self._priorities is not None:
            self._priorities.share()
        super().append(**{name: column[:0] for name, column in rows.items()})

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Holds the memory for several calls.

        Raises:
            TimeoutError: Another process kept the lock.
        """
        if not self._lock.acquire(timeout=self._timeout):
            raise TimeoutError(
                "SharedReplay: other processes must end their calls within "
                f"{self._timeout} s, got none that did. One may have died within a call"
            )
        try:
            yield
        finally:
            self._lock.release()

    __len__ = _in_turn(Replay.__len__)
    append = _in_turn(Replay.append)
    sample = _in_turn(Replay.sample)
    sample_windows = _in_turn(Replay.sample_windows)
    windows = _in_turn(Replay.windows)
    draw = _in_turn(Replay.draw)
    masses = _in_turn(Replay.masses)
    rows = _in_turn(Replay.rows)
    left = _in_turn(Replay.left)
    segment_starts = _in_turn(Replay.segment_starts)
    window_starts = _in_turn(Replay.window_starts)
    update_priority = _in_turn(Replay.update_priority)
    clear = _in_turn(Replay.clear)
    state_dict = _in_turn(Replay.state_dict)
    load_state_dict = _in_turn(Replay.load_state_dict)
    save = _in_turn(Replay.save)
    load = _in_turn(Replay.load)

"""An environment that takes a given time. Worker processes import it: it needs no torch."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import gymnasium
import numpy as np

Array = np.ndarray[Any, Any]


class Busy(gymnasium.Env[Array, int]):
    """Computes for a given time and shows a counter. Episodes do not end.

    It counts loops and not the time: a process that waits for a core must not seem to work.
    """

    def __init__(self, loops: int, shape: tuple[int, ...], dtype: str) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.dtype(dtype).type)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._loops = loops
        self._observation = np.zeros(shape, dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        self._count = (seed or 0) % 50
        return self._show(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        for _ in range(self._loops):
            pass
        self._count = (self._count + 1 + int(action)) % 251
        return self._show(), 1.0, False, False, {}

    def _show(self) -> Array:
        self._observation.flat[0] = self._count
        return self._observation


@cache
def loops_for(microseconds: float) -> int:
    """Loops of ``Busy`` that take so long on this machine when it is quiet."""
    count = 100_000
    best = min(_time_of(count) for _ in range(20))
    return max(1, round(microseconds * 1e-6 / best * count))


def _time_of(count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        pass
    return time.perf_counter() - begin

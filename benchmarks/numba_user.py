"""What a careful numba user writes: one fused pass backwards in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.harness import Calls, Kind, Row
from benchmarks.peers import njit
from benchmarks.returns import proven

# step(inputs, outputs, i, carry) -> carry: handles element i, an index into all arrays alike.
Step = Callable[..., Any]
Kernel = Callable[[tuple[Any, ...], tuple[Any, ...]], None]


@cache
def backwards(step: Step, dims: int) -> Kernel:
    """The loop around ``step``: over ``[steps, envs]`` row by row, or over a flat stream.

    Raises:
        PeerError: numba does not import.
    """
    inner = njit(step)

    def rows(inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        steps, envs = inputs[0].shape
        carry = np.zeros(envs, np.float32)
        for t in range(steps - 1, -1, -1):
            for b in range(envs):
                carry[b] = inner(inputs, outputs, (t, b), carry[b])

    def stream(inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        carry = np.float32(0)
        for t in range(inputs[0].shape[0] - 1, -1, -1):
            carry = inner(inputs, outputs, t, carry)

    return njit(rows if dims == 2 else stream)


def add_numba(
    row: Row,
    name: str,
    kernel: Callable[[], Kernel],
    inputs: Sequence[Any],
    expected: Sequence[Any],
) -> None:
    """Lets ``kernel`` in twice: with fresh outputs, and with reused ones."""

    def outputs() -> tuple[Any, ...]:
        return tuple(np.empty(want.shape, _narrow(want.dtype)) for want in expected)

    def fresh() -> Calls:
        compiled = kernel()

        def run() -> Sequence[Any]:
            results = outputs()
            compiled(tuple(inputs), results)
            return results

        return proven(run, expected)

    def reused() -> Calls:
        results = outputs()
        return proven(partial(kernel(), tuple(inputs), results), expected, lambda _: results)

    row.add(name, fresh, Kind.PLAIN)
    row.add(f"{name} out=", reused, Kind.PLAIN)


def _narrow(dtype: Any) -> Any:
    return np.float32 if dtype == np.float64 else dtype

"""Transitions of three well-known sizes, as the replays of all libraries hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Plan
from machin_fast.data.columns import new_columns

# state, action, reward, next_state, terminated; the reward is the number of the row, so that a
# row can be told wherever it turns up.
Transitions = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Schema:
    name: str
    capacity: int
    width: int
    dtype: type[np.generic]
    # None: a discrete action.
    action_width: int | None

    @property
    def case(self) -> str:
        return f"{self.name} {self.capacity:.0e}".replace("e+0", "e")


def schemas(plan: Plan) -> tuple[Schema, ...]:
    """CartPole in 45 bytes, MuJoCo's Humanoid in 3 kB, stacked Atari frames in 56 kB.

    Atari at its usual 1e5 rows would take 5.6 GB in each library; 2e4 is 1.1 GB, which no cache
    holds either.
    """
    shrink = 10 if plan.quick else 1
    return (
        Schema("CartPole", 1_000_000 // shrink, 4, np.float32, None),
        Schema("MuJoCo", 200_000 // shrink, 376, np.float32, 17),
        Schema("Atari", 20_000 // shrink, 84 * 84 * 4, np.uint8, None),
    )


def transitions(schema: Schema, rows: int, first: int = 0) -> Transitions:
    random = np.random.default_rng(first)

    def states() -> NDArray[Any]:
        if schema.dtype is np.uint8:
            return random.integers(256, size=(rows, schema.width), dtype=np.uint8)
        return random.standard_normal((rows, schema.width), dtype=np.float32)

    if schema.action_width is None:
        action: NDArray[Any] = random.integers(2, size=rows)
    else:
        action = random.random((rows, schema.action_width), dtype=np.float32)
    return {
        "state": states(),
        "action": action,
        "reward": np.arange(first, first + rows, dtype=np.float32),
        "next_state": states(),
        "terminated": random.random(rows) < 0.005,
    }


def cut(rows: Transitions, start: int, stop: int) -> Transitions:
    return {name: column[start:stop] for name, column in rows.items()}


def prove_rows(got: Transitions, source: Transitions) -> NDArray[np.int64]:
    """Each row of ``got`` is one of ``source``, whole, and they are spread over all of it.

    Returns:
        Which rows of ``source`` they are.

    Raises:
        AssertionError: That is not so.
    """
    reward = np.asarray(got["reward"]).ravel()
    first, total = source["reward"][0], len(source["reward"])
    row: NDArray[np.int64] = (reward - first).astype(np.int64)
    stored = (row >= 0) & (row < total)
    assert stored.all(), "a row was never stored"
    for name, column in got.items():
        np.testing.assert_array_equal(
            np.asarray(column).reshape(len(row), -1), source[name][row].reshape(len(row), -1), name
        )
    off = abs(row.mean() - (total - 1) / 2) / (total / np.sqrt(12 * len(row)) + 1e-9)
    assert off < 6, f"the mean row is {off:.0f} standard deviations off the middle"
    return row


def columns(source: Transitions, device: str) -> list[torch.Tensor]:
    """One tensor a column; on the CPU they share the memory of ``source``."""
    return [torch.from_numpy(array).to(device) for array in source.values()]


def as_replay_stores(source: Transitions) -> list[torch.Tensor]:
    """The same columns in the memory that ``Replay`` allocates: small ones share a record."""
    rows = {name: torch.from_numpy(array) for name, array in source.items()}
    stored = new_columns(rows, len(source["reward"]), torch.device("cpu"))
    for name, column in stored.items():
        column.copy_(rows[name])
    return list(stored.values())

"""Rows fetched from columns by given indices, as a replay does when it has drawn them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness import Calls, Demand, Kind, Once, Plan, Row
from benchmarks.peers import njit
from benchmarks.transitions import (
    Schema,
    Transitions,
    as_replay_stores,
    columns,
    schemas,
    transitions,
)
from machin_fast import ops
from machin_fast._extension import library

# gather(columns, index, out) -> columns
Gather = Callable[[list[Tensor], Tensor, list[Tensor]], list[Tensor]]


def rows(plan: Plan) -> Iterator[Row]:
    for schema in schemas(plan):
        source = transitions(schema, schema.capacity)
        stored = columns(source, plan.device)
        replay_columns = Once(partial(as_replay_stores, source))
        for n in _batches(schema, plan):
            row = Row(schema.case, f"gather {n}", plan, items=n)
            _add_ours(row, schema, stored, replay_columns, n)
            _add_plain(row, source, stored, n)
            yield row


def _batches(schema: Schema, plan: Plan) -> tuple[int, ...]:
    if plan.quick:
        return (1, 256) if schema.name == "CartPole" else (256,)
    # 32768 rows of Atari are 1.8 GB a batch, which nobody asks for.
    return (1, 256, 1024) if schema.name == "Atari" else (1, 256, 1024, 32768)


def _add_ours(
    row: Row, schema: Schema, stored: list[Tensor], replay_columns: Once[list[Tensor]], n: int
) -> None:
    def fresh(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> list[Tensor]:
        return ops.gather_rows(columns, index)

    def reused(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> list[Tensor]:
        return ops.gather_rows(columns, index, out=out)

    def direct(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> list[Tensor]:
        library.gather_rows(columns, index, out)
        return out

    row.add("ours", partial(_calls, lambda: stored, fresh, n), Kind.OURS)
    row.add("ours out=", partial(_calls, lambda: stored, reused, n), Kind.OURS)
    if row.plan.device == "cpu":
        calls = partial(_calls, replay_columns, direct, n)
        name = "ours as in Replay"
        row.add(name, calls, Kind.OURS, demands=_demands(schema, n))
        row.add(f"{name} 2 threads", calls, Kind.OURS, threads=2)


def _demands(schema: Schema, n: int) -> tuple[Demand, ...]:
    """Over torch's indexing. The plain rivals with reused outputs stand in the table, too: they
    are what a careful user could write without a replay."""
    ratio = {
        ("CartPole", 256): 3,
        ("CartPole", 1024): 3,
        ("MuJoCo", 256): 1.5,
        ("MuJoCo", 32768): 2,
        ("Atari", 256): 1,
    }.get((schema.name, n))
    return () if ratio is None else (Demand(ratio, "torch-index"),)


def _add_plain(row: Row, source: Transitions, stored: list[Tensor], n: int) -> None:
    def fresh(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> list[Tensor]:
        return [column[index] for column in columns]

    def reused(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> list[Tensor]:
        for column, result in zip(columns, out, strict=True):
            torch.index_select(column, 0, index, out=result)
        return out

    for name, gather in (("torch-index", fresh), ("torch-index out=", reused)):
        row.add(name, partial(_calls, lambda: stored, gather, n), Kind.PLAIN)
    if row.plan.device == "cpu":
        row.add("numba-user out=", partial(_numba, source, n), Kind.PLAIN)


def _calls(layout: Callable[[], list[Tensor]], gather: Gather, n: int) -> Calls:
    columns = layout()
    capacity, device = len(columns[0]), columns[0].device
    out = [torch.empty((n, *x.shape[1:]), dtype=x.dtype, device=device) for x in columns]
    pool = [torch.from_numpy(x).to(device) for x in _indices(capacity, n)]
    for got, column in zip(gather(columns, pool[0], out), columns, strict=True):
        assert torch.equal(got, column[pool[0]]), "wrong rows"
    return Calls(gather, cycle([(columns, index, out) for index in pool]))


def _numba(source: Transitions, n: int) -> Calls:
    kernel = njit(_fused)
    columns = tuple(x.reshape(len(x), -1) for x in source.values())
    out = tuple(np.empty((n, x.shape[1]), x.dtype) for x in columns)
    pool = _indices(len(columns[0]), n)
    kernel(columns, pool[0], out)
    for got, column in zip(out, columns, strict=True):
        np.testing.assert_array_equal(got, column[pool[0]])
    return Calls(kernel, cycle([(columns, index, out) for index in pool]))


def _fused(columns: Any, index: Any, out: Any) -> None:
    """All columns of a row, then the next row."""
    state, action, reward, next_state, terminated = columns
    state_out, action_out, reward_out, next_state_out, terminated_out = out
    for i in range(len(index)):
        row = index[i]
        for k in range(state.shape[1]):
            state_out[i, k] = state[row, k]
            next_state_out[i, k] = next_state[row, k]
        for k in range(action.shape[1]):
            action_out[i, k] = action[row, k]
        reward_out[i, 0] = reward[row, 0]
        terminated_out[i, 0] = terminated[row, 0]


def _indices(capacity: int, n: int) -> list[NDArray[np.int64]]:
    """Enough sets that rows are seldom in a cache from the round before."""
    count = min(4096, max(8, 2**21 // n))
    return list(np.random.default_rng(0).integers(capacity, size=(count, n)))

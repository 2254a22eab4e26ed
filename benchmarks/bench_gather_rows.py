"""Rows of a replay: fetched by given indices, and drawn at random, which is uniform replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import replays
from benchmarks.harness import Calls, Demand, Kind, Once, Plan, Row
from benchmarks.peers import njit
from benchmarks.replays import Replay
from benchmarks.transitions import (
    Schema,
    Transitions,
    as_replay_stores,
    columns,
    prove_rows,
    schemas,
    transitions,
)
from machin_fast import ops
from machin_fast._extension import library

# gather(columns, index, out) -> columns
Gather = Callable[[list[Tensor], Tensor, list[Tensor]], list[Tensor]]

# Rows in a block of the replays that add in blocks.
BLOCK = 64


def rows(plan: Plan) -> Iterator[Row]:
    for schema in schemas(plan):
        yield from _rows(schema, plan)


def _rows(schema: Schema, plan: Plan) -> Iterator[Row]:
    source = transitions(schema, schema.capacity)
    stored = columns(source, plan.device)
    replay_columns = Once(partial(as_replay_stores, source))
    peers = {
        name: Once(partial(build, schema, source, 1 if name == "tianshou" else BLOCK))
        for name, build in replays.REPLAYS.items()
    }
    for n in _batches(schema, plan):
        for op in ("gather", "sample"):
            row = Row(schema.case, f"{op} {n}", plan, items=n)
            _add_ours(row, schema, stored, replay_columns, n)
            _add_plain(row, source, stored, n)
            if op == "sample" and plan.device == "cpu":
                for name, peer in peers.items():
                    row.add(name, partial(_sampling, peer, source, n))
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

    layouts: list[tuple[str, Callable[[], list[Tensor]], Gather]] = [
        ("ours", lambda: stored, fresh),
        ("ours out=", lambda: stored, reused),
    ]
    if row.plan.device == "cpu":
        layouts.append(("ours as in Replay", replay_columns, direct))
    for name, layout, gather in layouts:
        calls = partial(_calls, row, layout, gather, n)
        row.add(name, calls, Kind.OURS, demands=_demands(row, schema, name, 1))
        if gather is direct:
            demands = _demands(row, schema, name, 2)
            row.add(f"{name} 2 threads", calls, Kind.OURS, threads=2, demands=demands)


def _demands(row: Row, schema: Schema, name: str, threads: int) -> tuple[Demand, ...]:
    """Over replays and torch's indexing. The plain rivals with reused outputs stand in the table,
    too: they are what a careful user could write without a replay."""
    if name != "ours as in Replay":
        return ()
    ratio = {
        ("CartPole", "sample 256", 1): 3,
        ("CartPole", "sample 1024", 1): 3,
        ("MuJoCo", "sample 256", 1): 1.5,
        ("MuJoCo", "sample 32768", 1): 2,
        ("Atari", "sample 256", 1): 1,
        ("Atari", "sample 256", 2): 1.5,
    }.get((schema.name, row.op, threads))
    return () if ratio is None else (Demand(ratio, "library"), Demand(ratio, "torch-index"))


def _add_plain(row: Row, source: Transitions, stored: list[Tensor], n: int) -> None:
    def fresh(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> list[Tensor]:
        return [column[index] for column in columns]

    def reused(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> list[Tensor]:
        for column, result in zip(columns, out, strict=True):
            torch.index_select(column, 0, index, out=result)
        return out

    for name, gather in (("torch-index", fresh), ("torch-index out=", reused)):
        row.add(name, partial(_calls, row, lambda: stored, gather, n), Kind.PLAIN)
    if row.plan.device == "cpu":
        row.add("numba-user out=", partial(_numba, row, source, n), Kind.PLAIN)


def _calls(row: Row, layout: Callable[[], list[Tensor]], gather: Gather, n: int) -> Calls:
    """Gathers with indices from a pool, or with indices drawn in the call as replays do."""
    columns = layout()
    capacity, device = len(columns[0]), columns[0].device
    out = [torch.empty((n, *x.shape[1:]), dtype=x.dtype, device=device) for x in columns]
    pool = [torch.from_numpy(x).to(device) for x in _indices(capacity, n)]
    for got, column in zip(gather(columns, pool[0], out), columns, strict=True):
        assert torch.equal(got, column[pool[0]]), "wrong rows"

    def sample() -> object:
        return gather(columns, torch.randint(capacity, (n,), device=device), out)

    if row.op.startswith("sample"):
        return Calls(sample)
    return Calls(gather, cycle([(columns, index, out) for index in pool]))


def _numba(row: Row, source: Transitions, n: int) -> Calls:
    kernel = njit(_fused)
    columns = tuple(x.reshape(len(x), -1) for x in source.values())
    out = tuple(np.empty((n, x.shape[1]), x.dtype) for x in columns)
    capacity = len(columns[0])
    pool = _indices(capacity, n)
    kernel(columns, pool[0], out)
    for got, column in zip(out, columns, strict=True):
        np.testing.assert_array_equal(got, column[pool[0]])
    random = np.random.default_rng(1)
    if row.op.startswith("sample"):
        return Calls(lambda: kernel(columns, random.integers(capacity, size=n), out))
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


def _sampling(peer: Once[Replay], source: Transitions, n: int) -> Calls:
    replay = peer()
    prove_rows(replay.read(replay.sample(n)), source)
    return Calls(partial(replay.sample, n))


def _indices(capacity: int, n: int) -> list[NDArray[np.int64]]:
    """Enough sets that rows are seldom in a cache from the round before."""
    count = min(4096, max(8, 2**21 // n))
    return list(np.random.default_rng(0).integers(capacity, size=(count, n)))

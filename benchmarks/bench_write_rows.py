"""Adding blocks of transitions to a full replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from benchmarks import replays
from benchmarks.harness import Calls, Demand, Kind, Plan, Row
from benchmarks.transitions import (
    Schema,
    Transitions,
    as_replay_stores,
    columns,
    cut,
    prove_rows,
    schemas,
    transitions,
)
from machin_fast import ops
from machin_fast._extension import library

# write(columns, rows, start)
Write = Callable[[list[Tensor], list[Tensor], int], object]

# Blocks to choose from, so that the same bytes are not written again and again.
BLOCKS = 16


def rows(plan: Plan) -> Iterator[Row]:
    for schema in schemas(plan):
        for block in _blocks(schema, plan):
            yield _row(schema, block, plan)


def _row(schema: Schema, block: int, plan: Plan) -> Row:
    source = transitions(schema, schema.capacity)
    new = transitions(schema, BLOCKS * block, first=schema.capacity)
    row = Row(schema.case, f"add {block}", plan, items=block)
    demands = _demands(schema, block) if plan.device == "cpu" else ()
    calls = partial(_calls, columns(source, plan.device), new, block)
    row.add("ours", partial(calls, ops.write_rows_), Kind.OURS)
    row.add("torch-slice", partial(calls, _torch_slice), Kind.PLAIN)
    if plan.device == "cpu":
        build = partial(_calls, as_replay_stores(source), new, block, library.write_rows)
        row.add("ours as in Replay", build, Kind.OURS, demands=demands)
        for name, peer in replays.REPLAYS.items():
            row.add(name, partial(_peer, peer, schema, source, new, block))
    return row


def _blocks(schema: Schema, plan: Plan) -> tuple[int, ...]:
    if plan.quick:
        return (1, 64) if schema.name == "CartPole" else (64,)
    return (1, 64) if schema.name == "Atari" else (1, 64, 1024)


def _demands(schema: Schema, block: int) -> tuple[Demand, ...]:
    return (Demand(1, "rlox"),) if (schema.name, block) == ("CartPole", 64) else ()


def _torch_slice(columns: list[Tensor], rows: list[Tensor], start: int) -> None:
    stop = start + len(rows[0])
    for column, row in zip(columns, rows, strict=True):
        column[start:stop] = row


def _calls(stored: list[Tensor], new: Transitions, block: int, write: Write) -> Calls:
    """Round and round the ring, in blocks that do not cross its end."""
    device = stored[0].device
    pool = [columns(cut(new, i * block, (i + 1) * block), str(device)) for i in range(BLOCKS)]
    write(stored, pool[0], block)
    for column, row in zip(stored, pool[0], strict=True):
        assert torch.equal(column[block : 2 * block], row), "wrong rows"
    starts = range(0, len(stored[0]) - block + 1, block)
    inputs = zip(cycle([stored]), cycle(pool), cycle(starts), strict=False)
    return Calls(write, inputs)


def _peer(
    build: replays.Build, schema: Schema, source: Transitions, new: Transitions, block: int
) -> Calls:
    """Proven on a replay that one block fills; timed on the full one."""
    pool = [cut(new, i * block, (i + 1) * block) for i in range(BLOCKS)]
    small = build(schema, cut(source, 0, block), block)
    small.add(*small.pack(pool[0]))
    prove_rows(small.read(small.sample(min(block, 64))), pool[0])
    replay = build(schema, source, block)
    return Calls(replay.add, cycle([replay.pack(rows) for rows in pool]))

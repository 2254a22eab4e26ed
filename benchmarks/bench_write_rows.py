"""Blocks of rows written into columns, as a full replay does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from benchmarks.harness import Calls, Kind, Plan, Row
from benchmarks.transitions import (
    Schema,
    Transitions,
    as_replay_stores,
    columns,
    cut,
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
    calls = partial(_calls, columns(source, plan.device), new, block)
    row.add("ours", partial(calls, ops.write_rows_), Kind.OURS)
    row.add("torch-slice", partial(calls, _torch_slice), Kind.PLAIN)
    if plan.device == "cpu":
        build = partial(_calls, as_replay_stores(source), new, block, library.write_rows)
        row.add("ours as in Replay", build, Kind.OURS)
    return row


def _blocks(schema: Schema, plan: Plan) -> tuple[int, ...]:
    if plan.quick:
        return (1, 64) if schema.name == "CartPole" else (64,)
    return (1, 64) if schema.name == "Atari" else (1, 64, 1024)


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

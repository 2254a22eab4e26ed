"""Whole replays: rows added, drawn, given priorities, and the loop of all that; and memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks import machin_buffers, prioritized_replays, replays
from benchmarks.harness import Calls, Demand, Footprint, Kind, Once, Plan, Row
from benchmarks.peers import PeerError
from benchmarks.prioritized_replays import as_array, draw_priorities, spread_priorities
from benchmarks.replays import Build, Replay
from benchmarks.transitions import Schema, Transitions, cut, prove_rows, schemas, transitions
from machin_fast.data import Replay as OurReplay

ADDED = 64
SAMPLED = 256
LOOP = f"loop add {ADDED}, sample {SAMPLED}"
PRIORITIZED_LOOP = f"{LOOP}, update {SAMPLED}"
# Steps of an episode of Machin's.
EPISODE = 200
# Blocks to choose from, so that the same bytes are not written again and again.
BLOCKS = 16
# Sets of rows to update, 2^18 rows in all: more lines of memory than caches hold.
SETS = 1024
# Bytes held over bytes of the rows as they are given.
MOST_MEMORY = 1.05
# Of Atari's rows, where the frames of stacks are stored once.
FRAMES = ("state", "next_state")
STACK = 4


@dataclass(frozen=True)
class Field:
    """Who competes, and what is demanded of ours."""

    name: str
    builds: dict[str, tuple[Kind, Build]]
    # By schema, operation and threads.
    demands: dict[tuple[str, str, int], Demand] = field(default_factory=dict)


PRIORITIZED = Field(
    "prioritized",
    prioritized_replays.REPLAYS,
    {
        ("CartPole", "add 64", 1): Demand(6),
        ("CartPole", PRIORITIZED_LOOP, 1): Demand(8),
        ("MuJoCo", PRIORITIZED_LOOP, 1): Demand(3),
        ("Atari", PRIORITIZED_LOOP, 1): Demand(1.3),
    },
)
UNIFORM = Field(
    "uniform",
    replays.REPLAYS,
    {
        ("CartPole", "add 64", 1): Demand(1, "rlox"),
        ("CartPole", "sample 256", 1): Demand(3),
        ("CartPole", "sample 1024", 1): Demand(3),
        ("MuJoCo", "sample 256", 1): Demand(1.5),
        ("MuJoCo", "sample 32768", 1): Demand(2),
        ("Atari", "sample 256", 1): Demand(1),
        ("Atari", "sample 256", 2): Demand(1.5),
    },
)
STORE = f"store_episode {EPISODE}"
SAMPLE_BATCH = f"sample_batch {SAMPLED}"
UPDATE_PRIORITY = f"update_priority {SAMPLED}"
MACHIN_DEMANDS = {("CartPole", op, 1): Demand(1) for op in (STORE, SAMPLE_BATCH, UPDATE_PRIORITY)}
BUFFER = Field(
    "Buffer",
    {"ours": (Kind.OURS, replays.our_buffer), "machin": replays.REPLAYS["machin"]},
    MACHIN_DEMANDS,
)
PRIORITIZED_BUFFER = Field(
    "PrioritizedBuffer",
    {
        "ours": (Kind.OURS, prioritized_replays.our_buffer),
        "machin": prioritized_replays.REPLAYS["machin"],
    },
    MACHIN_DEMANDS,
)


@dataclass(frozen=True)
class Operation:
    name: str
    items: int
    build: Callable[[Replay], Calls]
    # Whether it gathers rows, which two threads may do faster.
    gathers: bool = False


def rows(plan: Plan) -> Iterator[Row]:
    for schema in schemas(plan):
        source = transitions(schema, schema.capacity)
        for block in _blocks(schema, plan):
            new = _new_blocks(schema, block)
            for who in (PRIORITIZED, UNIFORM):
                operations = _operations(who, schema, new, plan)
                yield from _rows(who, schema, source, block, operations, plan)
    if plan.device == "cpu":
        if not plan.quick:
            yield from _loop_rows(plan)
        yield from _machin_rows(plan)


def footprints(plan: Plan) -> list[Footprint]:
    """Of the columns alone: priorities take the same for rows of any size."""
    found = []
    for schema in schemas(plan):
        row = transitions(schema, 1)
        found.append(_footprint("ours", schema, row, MOST_MEMORY))
        if schema.name == "Atari":
            stacks = {name: row[name].reshape(1, STACK, -1) for name in FRAMES}
            options = {"frames": FRAMES, "stack": STACK}
            found.append(_footprint("ours frames=", schema, row | stacks, 1 / STACK, **options))
    return found


def _footprint(
    name: str, schema: Schema, row: Transitions, most: float, **options: Any
) -> Footprint:
    replay = OurReplay(schema.capacity, **options)
    replay.append(**row)
    needed = sum(x.nbytes for x in row.values())
    return Footprint(schema.case, name, needed, replay.nbytes() / schema.capacity, most)


def _blocks(schema: Schema, plan: Plan) -> tuple[int, ...]:
    return (ADDED,) if plan.quick else (1, ADDED, 1024)


def _operations(who: Field, schema: Schema, new: list[Transitions], plan: Plan) -> list[Operation]:
    block = len(new[0]["reward"])
    add = Operation(f"add {block}", block, partial(_adding, new))
    if block != ADDED:
        return [add]
    if plan.quick:
        sampled: tuple[int, ...] = (SAMPLED,)
    else:
        # 32768 rows of Atari are 1.8 GB a batch, which nobody asks for.
        sampled = (256, 1024) if schema.name == "Atari" else (256, 1024, 32768)
    operations = [add, *(Operation(f"sample {n}", n, partial(_sampling, n), True) for n in sampled)]
    loop = LOOP
    if who is PRIORITIZED:
        operations.append(Operation(f"update {SAMPLED}", SAMPLED, _updating))
        loop = PRIORITIZED_LOOP
    return [*operations, Operation(loop, SAMPLED, partial(_looping, new), True)]


def _loop_rows(plan: Plan) -> Iterator[Row]:
    """Of other capacities, of which nothing is demanded."""
    who = replace(PRIORITIZED, demands={})
    for capacity in (100_000, 10_000_000):
        schema = replace(schemas(plan)[0], capacity=capacity)
        loop = Operation(PRIORITIZED_LOOP, SAMPLED, partial(_looping, _new_blocks(schema, ADDED)))
        source = transitions(schema, capacity)
        yield from _rows(who, schema, source, ADDED, [loop], plan)


def _machin_rows(plan: Plan) -> Iterator[Row]:
    """Machin's interface: dicts of tensors, an episode at a time."""
    schema = replace(schemas(plan)[0], capacity=machin_buffers.CAPACITY)
    source = _episodes(transitions(schema, schema.capacity))
    new = [_episodes(rows) for rows in _new_blocks(schema, EPISODE)]
    store = Operation(STORE, EPISODE, partial(_adding, new))
    sample = Operation(SAMPLE_BATCH, SAMPLED, partial(_sampling, SAMPLED))
    update = Operation(UPDATE_PRIORITY, SAMPLED, _updating)
    yield from _rows(BUFFER, schema, source, EPISODE, [store, sample], plan)
    yield from _rows(PRIORITIZED_BUFFER, schema, source, EPISODE, [store, sample, update], plan)


def _rows(
    who: Field,
    schema: Schema,
    source: Transitions,
    block: int,
    operations: list[Operation],
    plan: Plan,
) -> Iterator[Row]:
    gc.collect()  # the replays before these: some refer to themselves
    contestants = {
        name: (kind, Once(partial(_proven, build, schema, source, block)))
        for name, (kind, build) in _on_device(who.builds, plan.device).items()
    }
    for operation in operations:
        # Not kept in a variable: a row keeps its replays alive.
        yield _row(who, schema, operation, contestants, plan)


def _on_device(builds: dict[str, tuple[Kind, Build]], device: str) -> dict[str, tuple[Kind, Build]]:
    """On a GPU, those who can be there."""
    if device == "cpu":
        return builds
    return {
        name: (kind, partial(build, device=device))
        for name, (kind, build) in builds.items()
        if kind is not Kind.LIBRARY
    }


def _row(
    who: Field,
    schema: Schema,
    operation: Operation,
    contestants: dict[str, tuple[Kind, Once[Replay]]],
    plan: Plan,
) -> Row:
    row = Row(f"{schema.case} {who.name}", operation.name, plan, items=operation.items)

    def demands(threads: int) -> tuple[Demand, ...]:
        demand = who.demands.get((schema.name, operation.name, threads))
        return () if demand is None or plan.device == "cuda" else (demand,)

    for name, (kind, replay) in contestants.items():
        calls = partial(_calls, operation, replay)
        if kind is not Kind.OURS:
            row.add(name, calls, kind)
            continue
        row.add(name, calls, kind, demands=demands(1))
        if operation.gathers and plan.device == "cpu":
            row.add(f"{name} 2 threads", calls, kind, threads=2, demands=demands(2))
    return row


def _proven(build: Build, schema: Schema, source: Transitions, block: int) -> Replay:
    """A full replay. What is added is proven on one so small that all its rows are replaced."""
    size = max(block, 64)
    both = transitions(schema, 2 * size)
    small = build(schema, cut(both, 0, size), block)
    for start in range(size, 2 * size, block):
        small.add(*small.pack(cut(both, start, start + block)))
    prove_rows(small.read(small.sample(64)), cut(both, size, 2 * size))

    replay = build(schema, source, block)
    if replay.priorities is None:
        prove_rows(replay.read(replay.sample(SAMPLED)), replay.held)
    else:
        spread_priorities(replay, replay.priorities)
    return replay


def _calls(operation: Operation, replay: Once[Replay]) -> Calls:
    return operation.build(replay())


def _adding(new: list[Transitions], replay: Replay) -> Calls:
    return Calls(replay.add, cycle([replay.pack(rows) for rows in new]))


def _sampling(n: int, replay: Replay) -> Calls:
    if n > len(replay.held["reward"]):
        raise PeerError(f"it holds {len(replay.held['reward'])} rows, fewer than the {n} to draw")
    return Calls(partial(replay.sample, n))


def _updating(replay: Replay) -> Calls:
    """Of rows that it drew itself, in an order that is as bad for all."""
    assert replay.priorities is not None
    random = np.random.default_rng(1)
    drawn = (replay.priorities.index_of(replay.sample(SAMPLED)) for _ in range(SETS))
    indices = [replay.priorities.index(random.permutation(as_array(index))) for index in drawn]
    return Calls(replay.priorities.update, zip(cycle(indices), _priorities(replay), strict=False))


def _looping(new: list[Transitions], replay: Replay) -> Calls:
    add, sample = replay.add, partial(replay.sample, SAMPLED)
    blocks = cycle([replay.pack(rows) for rows in new])
    if replay.priorities is None:

        def draw(*rows: Any) -> None:
            add(*rows)
            sample()

        return Calls(draw, blocks)

    update, index_of = replay.priorities.update, replay.priorities.index_of

    def learn(rows: tuple[Any, ...], priority: Any) -> None:
        add(*rows)
        update(index_of(sample()), priority)

    return Calls(learn, zip(blocks, _priorities(replay), strict=False))


def _priorities(replay: Replay) -> Iterator[Any]:
    """One set more than there are sets of indices, so that no pair of both comes back soon.

    cpprb, for one, skips the climb when a leaf is given the weight it has.
    """
    assert replay.priorities is not None
    return cycle([replay.priorities.priority(x) for x in draw_priorities((SETS + 1, SAMPLED), 2)])


def _new_blocks(schema: Schema, block: int) -> list[Transitions]:
    new = transitions(schema, BLOCKS * block, first=schema.capacity)
    return [cut(new, i * block, (i + 1) * block) for i in range(BLOCKS)]


def _episodes(rows: Transitions) -> Transitions:
    """Each state is the next state of the step before, which Machin stores once."""
    ends = np.arange(1, len(rows["reward"]) + 1) % EPISODE == 0
    states = np.roll(rows["state"], -1, axis=0)
    next_state = np.where(ends[:, None], rows["next_state"], states)
    return {**rows, "next_state": next_state, "terminated": ends}

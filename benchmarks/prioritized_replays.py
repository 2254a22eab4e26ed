"""Whole replays, ours and the peers', that draw in proportion to priorities.

Rows enter with the priority 1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import machin_buffers, replays
from benchmarks.harness import Kind
from benchmarks.peers import load
from benchmarks.replays import CHUNK, Build, Priorities, Replay
from benchmarks.transitions import Schema, Transitions, prove_rows
from machin_fast.data import Replay as OurReplay

ALPHA = 0.6
BETA = 0.4
EPSILON = 1e-6


def ours(schema: Schema, source: Transitions, block: int, device: str = "cpu") -> Replay:
    replay = OurReplay(
        len(source["reward"]),
        device=device,
        priority="step",
        alpha=ALPHA,
        beta=BETA,
        epsilon=EPSILON,
    )

    def tensor(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return replace(
        replays.our_calls(replay, source),
        priorities=Priorities(
            replay.update_priority, attrgetter("index"), attrgetter("weight"), tensor, tensor
        ),
    )


def our_buffer(schema: Schema, source: Transitions, block: int) -> Replay:
    """Ours with Machin's interface."""
    buffer = _machin_buffer(load("machin_fast.buffers"), source)
    return _machin_calls(buffer, buffer.store_episode, source, block)


def cpprb(schema: Schema, source: Transitions, block: int) -> Replay:
    replay = load("cpprb").PrioritizedReplayBuffer(
        len(source["reward"]), replays.cpprb_fields(source), alpha=ALPHA, eps=EPSILON
    )
    return replace(
        replays.cpprb_calls(replay, source),
        sample=partial(replay.sample, beta=BETA),
        priorities=Priorities(
            replay.update_priorities,
            itemgetter("indexes"),
            itemgetter("weights"),
            lambda index: index.astype(np.uint64),
            np.asarray,
        ),
    )


def rlox(schema: Schema, source: Transitions, block: int) -> Replay:
    """Blocks go in row by row: it has no other way."""
    replay = load("rlox").PrioritizedReplayBuffer(
        *replays.rlox_sizes(schema, source), alpha=ALPHA, beta=BETA
    )

    def add(rows: list[tuple[Any, ...]]) -> None:
        for row in rows:
            replay.push(*row)

    def pack(rows: Transitions) -> tuple[Any, ...]:
        return (replays.rlox_rows(rows),)

    replays.fill(source, lambda rows: add(*pack(rows)))
    if block == 1:
        add, pack = replay.push, lambda rows: replays.rlox_rows(rows)[0]
    return Replay(
        source,
        replays.rlox_sample(replay),
        partial(replays.rlox_read, source),
        add,
        pack,
        Priorities(
            replay.update_priorities,
            itemgetter("indices"),
            itemgetter("weights"),
            lambda index: index.astype(np.uint64),
            lambda priority: priority.astype(np.float64),
        ),
    )


def tianshou(schema: Schema, source: Transitions, block: int) -> Replay:
    replay = load("tianshou.data").PrioritizedReplayBuffer(
        len(source["reward"]), alpha=ALPHA, beta=BETA
    )
    return replace(
        replays.tianshou_calls(replay, source, block),
        priorities=Priorities(
            replay.update_weight,
            itemgetter(1),
            lambda got: got[0].weight,
            np.asarray,
            lambda priority: priority.astype(np.float64),
        ),
    )


def torchrl(schema: Schema, source: Transitions, block: int) -> Replay:
    load("torchrl._torchrl")  # its trees: without them a sampler fails later, and less clearly
    data = load("torchrl.data")
    capacity = len(source["reward"])
    replay = data.ReplayBuffer(
        storage=data.LazyTensorStorage(capacity),
        sampler=data.PrioritizedSampler(capacity, alpha=ALPHA, beta=BETA, eps=EPSILON),
    )
    calls = replays.torchrl_calls(replay, source)
    return replace(
        calls,
        sample=partial(replay.sample, return_info=True),
        read=lambda got: calls.read(got[0]),
        priorities=Priorities(
            replay.update_priority,
            lambda got: got[1]["index"],
            lambda got: got[1]["priority_weight"],
            torch.from_numpy,
            torch.from_numpy,
        ),
    )


def machin(schema: Schema, source: Transitions, block: int) -> Replay:
    source = machin_buffers.held(source)
    buffer = _machin_buffer(machin_buffers.machin(), source)
    # Without a priority each row would enter with another: it compounds its default.
    append = partial(buffer.append, priority=1.0)
    return _machin_calls(buffer, machin_buffers.one_by_one(append), source, block)


def _machin_buffer(module: Any, source: Transitions) -> Any:
    return module.PrioritizedBuffer(
        len(source["reward"]),
        epsilon=EPSILON,
        alpha=ALPHA,
        beta=BETA,
        beta_increment_per_sampling=0.0,
    )


def _machin_calls(buffer: Any, store: Any, source: Transitions, block: int) -> Replay:
    def update(index: Any, priority: Any) -> None:
        buffer.update_priority(priority, index)

    return replace(
        replays.machin_calls(buffer, store, source, block),
        priorities=Priorities(
            update,
            itemgetter(2),
            itemgetter(3),
            np.asarray,
            lambda priority: priority.astype(np.float64),
        ),
    )


REPLAYS: dict[str, tuple[Kind, Build]] = {
    "ours": (Kind.OURS, ours),
    "cpprb": (Kind.LIBRARY, cpprb),
    "rlox": (Kind.LIBRARY, rlox),
    "tianshou": (Kind.LIBRARY, tianshou),
    "torchrl": (Kind.LIBRARY, torchrl),
    "machin": (Kind.LIBRARY, machin),
}


def as_array(x: Any) -> NDArray[Any]:
    """A copy: what cpprb returns is a view that its next sample overwrites."""
    array = torch.as_tensor(x).cpu().numpy().ravel()
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def draw_priorities(shape: int | tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Skewed like temporal-difference errors, and never zero."""
    random = np.random.default_rng(seed)
    return random.gamma(0.6, size=shape).astype(np.float32) + np.float32(1e-3)


def spread_priorities(replay: Replay, priorities: Priorities) -> None:
    """Gives each row of ``replay`` a priority of its own, and proves that they are followed.

    Raises:
        AssertionError: Indices are not those of the rows, weights do not belong to the
            priorities, or the share of some rows in the draws is 6 standard deviations off.
    """
    priority = draw_priorities(len(replay.held["reward"]))
    for start in range(0, len(priority), CHUNK):
        chunk = priority[start : start + CHUNK]
        index = np.arange(start, start + len(chunk))
        priorities.update(priorities.index(index), priorities.priority(chunk))

    mass = (priority.astype(np.float64) + EPSILON) ** ALPHA
    drawn = []
    for draw in range(128):
        batch = replay.sample(256)
        got = replay.read(batch)
        # Whole rows of Atari take long to compare: after the first batch their numbers must do.
        row = prove_rows({"reward": got["reward"]} if draw else got, replay.held)
        np.testing.assert_array_equal(as_array(priorities.index_of(batch)), row, "index")
        factor = as_array(priorities.weight_of(batch)) * mass[row] ** BETA
        np.testing.assert_allclose(factor / factor[0], 1, rtol=1e-3, err_msg="weight")
        drawn.append(row)
    # 8 equally large groups of rows, by priority.
    group = np.empty(len(mass), np.int64)
    group[np.argsort(mass)] = np.arange(len(mass)) * 8 // len(mass)
    counts = np.bincount(group[np.concatenate(drawn)], minlength=8)
    expected = np.bincount(group, mass) * counts.sum() / mass.sum()
    off = np.abs(counts - expected) / np.sqrt(expected + 1)
    assert off.max() < 6, f"drawn {off.max():.0f} standard deviations off its priority"

"""Whole replays, ours and the peers', that draw uniformly."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import machin_buffers
from benchmarks.harness import Kind
from benchmarks.peers import PeerError, load
from benchmarks.transitions import Schema, Transitions, columns, cut
from machin_fast.data import Replay as OurReplay

# Rows to fill in at a time.
CHUNK = 1 << 14


@dataclass(frozen=True)
class Priorities:
    """How priorities are handled, by those who have them."""

    # update(index, priority)
    update: Callable[[Any, Any], object]
    # Indices and importance weights of what was sampled.
    index_of: Callable[[Any], Any]
    weight_of: Callable[[Any], Any]
    # Arrays as ``update`` takes them. Rows are counted from the first that was filled in, and
    # stand for themselves until rows are added.
    index: Callable[[NDArray[np.int64]], Any]
    priority: Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True)
class Replay:
    """How one library is called, on a replay that is full."""

    # What it was filled with.
    held: Transitions
    sample: Callable[[int], Any]
    # What it sampled, as arrays under our names.
    read: Callable[[Any], Transitions]
    # add(*pack(rows)) stores a block of the size that the replay was made for.
    add: Callable[..., object]
    pack: Callable[[Transitions], tuple[Any, ...]]
    priorities: Priorities | None = None


# build(schema, source, block); those that may live on a GPU take a device, too.
Build = Callable[..., Replay]


def ours(schema: Schema, source: Transitions, block: int, device: str = "cpu") -> Replay:
    return our_calls(OurReplay(len(source["reward"]), device=device), source)


def our_calls(replay: OurReplay, source: Transitions) -> Replay:
    # With keywords, as users write it; a dict to unpack would cost 0.3 us more.
    keywords = ", ".join(f"{name}={name}" for name in source)
    add = eval(f"lambda {', '.join(source)}: append({keywords})", {"append": replay.append})

    def pack(rows: Transitions) -> tuple[Any, ...]:
        return tuple(columns(rows, str(replay.device)))

    def read(batch: Any) -> Transitions:
        return {name: column.cpu().numpy() for name, column in batch.columns.items()}

    add(*pack(source))
    return Replay(source, replay.sample, read, add, pack)


def our_buffer(schema: Schema, source: Transitions, block: int) -> Replay:
    """Ours with Machin's interface."""
    buffer = load("machin_fast.buffers").Buffer(len(source["reward"]))
    return machin_calls(buffer, buffer.store_episode, source, block)


def torch_index(schema: Schema, source: Transitions, block: int, device: str = "cpu") -> Replay:
    """What a user writes without a library: one tensor a column, indexed."""
    stored = [column.clone() for column in columns(source, device)]
    capacity = len(source["reward"])
    starts = cycle(range(0, capacity - block + 1, block))

    def sample(n: int) -> list[torch.Tensor]:
        index = torch.randint(capacity, (n,), device=device)
        return [column[index] for column in stored]

    def read(batch: list[torch.Tensor]) -> Transitions:
        return {name: x.cpu().numpy() for name, x in zip(source, batch, strict=True)}

    def add(*rows: torch.Tensor) -> None:
        start = next(starts)
        for column, new in zip(stored, rows, strict=True):
            column[start : start + block] = new

    def pack(rows: Transitions) -> tuple[Any, ...]:
        return tuple(columns(rows, device))

    return Replay(source, sample, read, add, pack)


def cpprb(schema: Schema, source: Transitions, block: int) -> Replay:
    return cpprb_calls(
        load("cpprb").ReplayBuffer(len(source["reward"]), cpprb_fields(source)), source
    )


def cpprb_fields(source: Transitions) -> dict[str, Any]:
    return {name: {"shape": x.shape[1:] or 1, "dtype": x.dtype} for name, x in source.items()}


def cpprb_calls(replay: Any, source: Transitions) -> Replay:
    def add(rows: Transitions) -> None:
        replay.add(**rows)

    def read(batch: Any) -> Transitions:
        return {name: batch[name] for name in source}

    fill(source, add)
    return Replay(source, replay.sample, read, add, lambda rows: (rows,))


def rlox(schema: Schema, source: Transitions, block: int) -> Replay:
    replay = load("rlox").ReplayBuffer(*rlox_sizes(schema, source))

    def pack(rows: Transitions) -> tuple[Any, ...]:
        names = ("state", "next_state", "action", "reward")
        flat = [rows[name].ravel().astype(np.float32) for name in names]
        ended = rows["terminated"].astype(np.uint8)
        return (*flat, ended, np.zeros_like(ended))

    fill(source, lambda rows: replay.push_batch(*pack(rows)))
    add, pack_block = replay.push_batch, pack
    if block == 1:
        add, pack_block = replay.push, lambda rows: rlox_rows(rows)[0]
    return Replay(source, rlox_sample(replay), partial(rlox_read, source), add, pack_block)


def rlox_sizes(schema: Schema, source: Transitions) -> tuple[int, int, int]:
    if schema.dtype is not np.float32:
        raise PeerError(f"it stores float32 observations only, not {schema.name}")
    return len(source["reward"]), schema.width, schema.action_width or 1


def rlox_rows(rows: Transitions) -> list[tuple[Any, ...]]:
    """For each row what ``push`` takes."""
    action = rows["action"].reshape(len(rows["action"]), -1).astype(np.float32)
    reward, terminated = rows["reward"].tolist(), rows["terminated"].tolist()
    truncated = [False] * len(reward)
    each = zip(
        rows["state"], action, reward, terminated, truncated, rows["next_state"], strict=True
    )
    return list(each)


def rlox_read(source: Transitions, batch: Any) -> Transitions:
    theirs = ("obs", "actions", "rewards", "next_obs", "terminated")
    return dict(zip(source, (batch[name] for name in theirs), strict=True))


def rlox_sample(replay: Any) -> Callable[[int], Any]:
    seeds = count()
    return lambda n: replay.sample(n, next(seeds))


def tianshou(schema: Schema, source: Transitions, block: int) -> Replay:
    replay = load("tianshou.data").ReplayBuffer(len(source["reward"]))
    return tianshou_calls(replay, source, block)


def tianshou_calls(replay: Any, source: Transitions, block: int) -> Replay:
    """Single rows are added as such; blocks are moved from another buffer, its fastest way."""
    data = load("tianshou.data")

    def fields(rows: Transitions) -> dict[str, Any]:
        return {
            "obs": rows["state"],
            "act": rows["action"],
            "rew": rows["reward"],
            "terminated": rows["terminated"],
            "truncated": np.zeros_like(rows["terminated"]),
            "obs_next": rows["next_state"],
        }

    def pack(rows: Transitions) -> tuple[Any, ...]:
        done = rows["terminated"]
        return (data.ReplayBuffer.from_data(**fields(rows), done=done),)

    def pack_one(rows: Transitions) -> tuple[Any, ...]:
        return (data.Batch({name: column[0] for name, column in fields(rows).items()}),)

    def read(got: Any) -> Transitions:
        batch, _ = got
        stored = (batch.obs, batch.act, batch.rew, batch.obs_next, batch.terminated)
        return dict(zip(source, stored, strict=True))

    replay.update(*pack(source))
    add, pack_block = (replay.add, pack_one) if block == 1 else (replay.update, pack)
    return Replay(source, replay.sample, read, add, pack_block)


def stable_baselines3(schema: Schema, source: Transitions, block: int) -> Replay:
    """Made for ``block`` environments, each of which adds one row."""
    spaces = load("gymnasium.spaces")
    low, high = (0, 255) if schema.dtype is np.uint8 else (-np.inf, np.inf)
    if schema.action_width is None:
        action_space = spaces.Discrete(2)
    else:
        action_space = spaces.Box(-1, 1, (schema.action_width,))
    steps = len(source["reward"]) // block
    replay = load("stable_baselines3.common.buffers").ReplayBuffer(
        steps * block,
        spaces.Box(low, high, (schema.width,), schema.dtype),
        action_space,
        "cpu",
        n_envs=block,
    )
    stored = (
        replay.observations, replay.actions, replay.rewards, replay.next_observations, replay.dones,
    )  # fmt: skip
    held = cut(source, 0, steps * block)
    for column, rows in zip(stored, held.values(), strict=True):
        column[:] = rows.reshape(column.shape)
    replay.full = True

    def pack(rows: Transitions) -> tuple[Any, ...]:
        names = ("state", "next_state", "action", "reward", "terminated")
        return (*(rows[name] for name in names), [{} for _ in rows["reward"]])

    def read(batch: Any) -> Transitions:
        theirs = (
            batch.observations, batch.actions, batch.rewards, batch.next_observations, batch.dones,
        )  # fmt: skip
        return {name: x.numpy() for name, x in zip(source, theirs, strict=True)}

    return Replay(held, replay.sample, read, replay.add, pack)


def torchrl(schema: Schema, source: Transitions, block: int) -> Replay:
    data = load("torchrl.data")
    storage = data.LazyTensorStorage(len(source["reward"]))
    return torchrl_calls(data.ReplayBuffer(storage=storage), source)


def torchrl_calls(replay: Any, source: Transitions) -> Replay:
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    tensordict = load("tensordict").TensorDict

    def pack(rows: Transitions) -> tuple[Any, ...]:
        tensors = {name: torch.from_numpy(x) for name, x in rows.items()}
        return (tensordict(tensors, batch_size=[len(rows["reward"])]),)

    def read(batch: Any) -> Transitions:
        return {name: batch[name].numpy() for name in source}

    fill(source, lambda rows: replay.extend(*pack(rows)))
    return Replay(source, replay.sample, read, replay.extend, pack)


def machin(schema: Schema, source: Transitions, block: int) -> Replay:
    source = machin_buffers.held(source)
    buffer = machin_buffers.machin().Buffer(len(source["reward"]))
    return machin_calls(buffer, machin_buffers.one_by_one(buffer.append), source, block)


def machin_calls(
    buffer: Any, store: Callable[[machin_buffers.Episode], object], source: Transitions, block: int
) -> Replay:
    """A buffer with Machin's interface; ``store`` takes an episode of ``block`` steps."""
    pack = machin_buffers.pack
    fill(source, lambda rows: store(*pack(rows)), block)
    return Replay(source, buffer.sample_batch, machin_buffers.read, store, pack)


REPLAYS: dict[str, tuple[Kind, Build]] = {
    "ours": (Kind.OURS, ours),
    "torch-index": (Kind.PLAIN, torch_index),
    "cpprb": (Kind.LIBRARY, cpprb),
    "rlox": (Kind.LIBRARY, rlox),
    "tianshou": (Kind.LIBRARY, tianshou),
    "stable-baselines3": (Kind.LIBRARY, stable_baselines3),
    "torchrl": (Kind.LIBRARY, torchrl),
    "machin": (Kind.LIBRARY, machin),
}


def fill(source: Transitions, add: Callable[[Transitions], object], size: int = CHUNK) -> None:
    """Adds all of ``source``, ``size`` rows at a time."""
    for start in range(0, len(source["reward"]), size):
        add(cut(source, start, start + size))

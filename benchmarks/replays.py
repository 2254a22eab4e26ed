"""The peers' whole replays: they draw their own rows, and offer no gather without that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch

from benchmarks.peers import PeerError, load
from benchmarks.transitions import Schema, Transitions, cut

_CHUNK = 1 << 14


@dataclass(frozen=True)
class Replay:
    """How one library is called, on a replay that is full."""

    sample: Callable[[int], Any]
    # What it sampled, as arrays under our names.
    read: Callable[[Any], Transitions]
    # add(*pack(rows)) stores a block of the size that the replay was made for.
    add: Callable[..., object]
    pack: Callable[[Transitions], tuple[Any, ...]]


Build = Callable[[Schema, Transitions, int], Replay]


def cpprb(schema: Schema, source: Transitions, block: int) -> Replay:
    fields = {name: {"shape": x.shape[1:] or 1, "dtype": x.dtype} for name, x in source.items()}
    replay = load("cpprb").ReplayBuffer(len(source["reward"]), fields)

    def add(rows: Transitions) -> None:
        replay.add(**rows)

    _fill(source, _CHUNK, add)
    return Replay(replay.sample, dict, add, lambda rows: (rows,))


def rlox(schema: Schema, source: Transitions, block: int) -> Replay:
    if schema.dtype is not np.float32:
        raise PeerError(f"it stores float32 observations only, not {schema.name}")
    replay = load("rlox").ReplayBuffer(
        len(source["reward"]), schema.width, schema.action_width or 1
    )

    def pack(rows: Transitions) -> tuple[Any, ...]:
        names = ("state", "next_state", "action", "reward")
        flat = [rows[name].ravel().astype(np.float32) for name in names]
        ended = rows["terminated"].astype(np.uint8)
        return (*flat, ended, np.zeros_like(ended))

    def pack_one(rows: Transitions) -> tuple[Any, ...]:
        state, next_state, action, reward, *_ = pack(rows)
        return state, action, reward.item(), bool(rows["terminated"][0]), False, next_state

    def read(batch: Any) -> Transitions:
        theirs = ("obs", "actions", "rewards", "next_obs", "terminated")
        return dict(zip(source, (batch[name] for name in theirs), strict=True))

    _fill(source, _CHUNK, lambda rows: replay.push_batch(*pack(rows)))
    seeds = count()
    add, pack_block = (replay.push, pack_one) if block == 1 else (replay.push_batch, pack)
    return Replay(lambda n: replay.sample(n, next(seeds)), read, add, pack_block)


def tianshou(schema: Schema, source: Transitions, block: int) -> Replay:
    data = load("tianshou.data")
    if block > 1:
        raise PeerError("its buffers add one row at a time, not blocks")
    done = source["terminated"]
    replay = data.ReplayBuffer.from_data(
        obs=source["state"],
        act=source["action"],
        rew=source["reward"],
        terminated=done,
        truncated=np.zeros_like(done),
        done=done,
        obs_next=source["next_state"],
    )

    def pack(rows: Transitions) -> tuple[Any, ...]:
        state, action, reward, next_state, terminated = (x[0] for x in rows.values())
        row = data.Batch(
            obs=state,
            act=action,
            rew=reward,
            terminated=terminated,
            truncated=False,
            obs_next=next_state,
            info={},
        )
        return (row,)

    def read(got: Any) -> Transitions:
        batch, _ = got
        columns = (batch.obs, batch.act, batch.rew, batch.obs_next, batch.terminated)
        return dict(zip(source, columns, strict=True))

    return Replay(replay.sample, read, replay.add, pack)


def stable_baselines3(schema: Schema, source: Transitions, block: int) -> Replay:
    spaces = load("gymnasium.spaces")
    low, high = (0, 255) if schema.dtype is np.uint8 else (-np.inf, np.inf)
    if schema.action_width is None:
        action_space = spaces.Discrete(2)
    else:
        action_space = spaces.Box(-1, 1, (schema.action_width,))
    replay = load("stable_baselines3.common.buffers").ReplayBuffer(
        len(source["reward"]),
        spaces.Box(low, high, (schema.width,), schema.dtype),
        action_space,
        "cpu",
        n_envs=block,
    )

    def pack(rows: Transitions) -> tuple[Any, ...]:
        names = ("state", "next_state", "action", "reward", "terminated")
        return (*(rows[name] for name in names), [{} for _ in rows["reward"]])

    def read(batch: Any) -> Transitions:
        columns = (
            batch.observations, batch.actions, batch.rewards, batch.next_observations, batch.dones,
        )  # fmt: skip
        return {name: x.numpy() for name, x in zip(source, columns, strict=True)}

    whole = len(source["reward"]) // block * block
    _fill(cut(source, 0, whole), block, lambda rows: replay.add(*pack(rows)))
    return Replay(replay.sample, read, replay.add, pack)


def torchrl(schema: Schema, source: Transitions, block: int) -> Replay:
    data = load("torchrl.data")
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    tensordict = load("tensordict").TensorDict
    replay = data.ReplayBuffer(storage=data.LazyTensorStorage(len(source["reward"])))

    def pack(rows: Transitions) -> tuple[Any, ...]:
        tensors = {name: torch.from_numpy(x) for name, x in rows.items()}
        return (tensordict(tensors, batch_size=[len(rows["reward"])]),)

    def read(batch: Any) -> Transitions:
        return {name: batch[name].numpy() for name in source}

    _fill(source, _CHUNK, lambda rows: replay.extend(*pack(rows)))
    return Replay(replay.sample, read, replay.extend, pack)


REPLAYS: dict[str, Build] = {
    "cpprb": cpprb,
    "rlox": rlox,
    "tianshou": tianshou,
    "stable-baselines3": stable_baselines3,
    "torchrl": torchrl,
}


def _fill(source: Transitions, size: int, add: Callable[[Transitions], object]) -> None:
    for start in range(0, len(source["reward"]), size):
        add(cut(source, start, start + size))

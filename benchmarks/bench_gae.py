"""Generalized advantage estimation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.harness import Calls, Demand, Plan, Row
from benchmarks.linear_scan import jax_scan, torch_loop
from benchmarks.numba_user import Kernel, add_numba, backwards
from benchmarks.peers import load, njit
from benchmarks.returns import (
    GAMMA,
    LAM,
    Demands,
    Expected,
    add_jax,
    add_ours,
    add_torch_loop,
    proven,
    torchrl,
    usual_demands,
)
from benchmarks.rollouts import Rollout, rollouts
from benchmarks.tianshou_buffer import episodic_return, tianshou_order
from machin_fast import ops

NAMES = ("reward", "value", "next_value", "terminated", "truncated")


def rows(plan: Plan) -> Iterator[Row]:
    for data in rollouts(plan):
        expected = reference.gae(data, GAMMA, LAM)
        row = Row(data.name, "gae", plan, items=data.reward.size)
        inputs = data.tensors(NAMES, plan.device)
        demands = _flat_demands if data.flat else usual_demands(data)
        add_ours(row, ops.gae, inputs, data, expected, demands, gamma=GAMMA, lam=LAM)
        add_torch_loop(row, _torch, inputs[:4], data, expected)
        if plan.device == "cpu":
            _add_cpu_peers(row, data, expected)
        yield row


def _flat_demands(suffix: str) -> Demands:
    return (Demand(2.5, f"numba-user{suffix}"), Demand(5, "rlox"))


def _add_cpu_peers(row: Row, data: Rollout, expected: Expected) -> None:
    arrays = data.arrays(NAMES)
    add_numba(row, "numba-user", lambda: backwards(_step, data.reward.ndim), arrays, expected)
    add_jax(row, _jax, arrays[:4], expected)
    peers: dict[str, Callable[[Rollout, Expected], Calls]] = {
        "rlox": _rlox,
        "tianshou": _tianshou,
        "tianshou kernel": _tianshou_kernel,
        "torchrl vec": partial(_torchrl, "vec_generalized_advantage_estimate"),
    }
    if not data.flat:
        # Loops of Python over the steps, and a kernel that wants wide rows.
        peers["torchrl loop"] = partial(_torchrl, "generalized_advantage_estimate")
        peers["stable-baselines3"] = _sb3
        add_numba(row, "numba-rows", _numba_rows, arrays, expected)
    for name, build in peers.items():
        row.add(name, partial(build, data, expected))


def _torch(reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor) -> list[Tensor]:
    alive = ~terminated
    delta = reward + GAMMA * next_value * alive - value
    advantage = torch_loop(GAMMA * LAM * alive, delta)
    return [advantage, advantage + value]


def _jax(reward: Any, value: Any, next_value: Any, terminated: Any) -> Any:
    alive = 1 - terminated
    delta = reward + GAMMA * next_value * alive - value
    advantage = jax_scan(GAMMA * LAM * alive, delta)
    return advantage, advantage + value


def _step(inputs: Any, outputs: Any, i: Any, carry: Any) -> Any:
    reward, value, next_value, terminated, truncated = inputs
    advantage, target = outputs
    alive = np.float32(not terminated[i])
    keep = np.float32(GAMMA * LAM) * alive * np.float32(not truncated[i])
    delta = reward[i] + np.float32(GAMMA) * next_value[i] * alive - value[i]
    carry = delta + keep * carry
    advantage[i] = carry
    target[i] = carry + value[i]
    return carry


@cache
def _numba_rows() -> Kernel:
    """One row at a time, each a call on slices: the form that LLVM vectorises, given wide rows."""
    gamma, decay = np.float32(GAMMA), np.float32(GAMMA * LAM)

    def one(r: Any, v: Any, nv: Any, end: Any, cut: Any, trace: Any, adv: Any, target: Any) -> None:
        for b in range(r.shape[0]):
            alive = np.float32(1) - np.float32(end[b])
            keep = alive * (np.float32(1) - np.float32(cut[b]))
            x = r[b] + gamma * nv[b] * alive - v[b] + decay * keep * trace[b]
            adv[b] = x
            target[b] = x + v[b]

    one = njit(one)

    def kernel(inputs: Any, outputs: Any) -> None:
        r, v, nv, end, cut = inputs
        adv, target = outputs
        trace = np.zeros(r.shape[1], np.float32)
        for t in range(r.shape[0] - 1, -1, -1):
            one(r[t], v[t], nv[t], end[t], cut[t], trace, adv[t], target[t])
            trace = adv[t]

    return njit(kernel)


def _rlox(data: Rollout, expected: Expected) -> Calls:
    arrays = [data.env_major(x).ravel() for x in (data.reward, data.value, data.terminated)]
    inputs = [x.astype(np.float32) for x in (*arrays, data.last_value)]
    run = partial(load("rlox").compute_gae_batched_f32, *inputs, len(data.reward), GAMMA, LAM)
    return proven(run, expected, lambda got: [data.time_major(x) for x in got])


def _tianshou(data: Rollout, expected: Expected) -> Calls:
    """As its policies call it."""
    run = episodic_return(data, data.value, data.next_value, GAMMA, LAM)
    return proven(run, expected, lambda got: [data.time_major(x) for x in reversed(got)])


def _tianshou_kernel(data: Rollout, expected: Expected) -> Calls:
    """Its numba function alone: private, and the fastest thing it has."""
    kernel = load("tianshou.algorithm.algorithm_base")._gae
    masked = data.next_value * ~data.terminated
    inputs = tianshou_order(data, data.value, masked, data.reward, data.ended)
    run = partial(kernel, *inputs, GAMMA, LAM)
    return proven(run, expected[:1], lambda got: [data.time_major(got)])


def _torchrl(function: str, data: Rollout, expected: Expected) -> Calls:
    names = ("value", "next_value", "reward", "terminated", "terminated")
    run = torchrl(function, (GAMMA, LAM), names, data)
    return proven(run, expected, lambda got: [data.time_major(x.numpy()) for x in got])


def _sb3(data: Rollout, expected: Expected) -> Calls:
    spaces = load("gymnasium.spaces")
    steps, envs = data.reward.shape
    buffer = load("stable_baselines3.common.buffers").RolloutBuffer(
        steps, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", LAM, GAMMA, envs
    )
    nothing = np.zeros((envs, 1))
    starts = np.concatenate([np.ones((1, envs)), data.terminated[:-1]])
    value = torch.from_numpy(data.value)
    for t in range(steps):
        buffer.add(nothing, nothing, data.reward[t], starts[t], value[t], value[t])
    last = torch.from_numpy(data.last_value)
    run = partial(buffer.compute_returns_and_advantage, last, data.terminated[-1])
    return proven(run, expected, lambda _: (buffer.advantages, buffer.returns))

"""V-trace, all clips at 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.harness import Calls, Plan, Row
from benchmarks.linear_scan import jax_scan, torch_loop
from benchmarks.numba_user import add_numba, backwards
from benchmarks.peers import load
from benchmarks.returns import (
    GAMMA,
    Expected,
    add_jax,
    add_ours,
    add_torch_loop,
    proven,
    torchrl,
    usual_demands,
)
from benchmarks.rollouts import Rollout, rollouts
from machin_fast import ops

NAMES = (
    "behavior_log_prob",
    "target_log_prob",
    "reward",
    "value",
    "next_value",
    "terminated",
    "truncated",
)


def rows(plan: Plan) -> Iterator[Row]:
    for data in rollouts(plan):
        expected = reference.vtrace(data, GAMMA)
        row = Row(data.name, "vtrace", plan, items=data.reward.size)
        inputs = data.tensors(NAMES, plan.device)
        add_ours(row, ops.vtrace, inputs, data, expected, usual_demands(data), gamma=GAMMA)
        add_torch_loop(row, _torch, inputs, data, expected)
        if plan.device == "cpu":
            arrays = data.arrays(NAMES)
            kernel = partial(backwards, _step, data.reward.ndim)
            add_numba(row, "numba-user", kernel, arrays, expected)
            add_jax(row, _jax, [*arrays[:6], data.ended], expected)
            peers: dict[str, Callable[[Rollout, Expected], Calls]] = {"rlox": _rlox}
            if not data.flat:
                peers["torchrl"] = _torchrl
            for name, build in peers.items():
                row.add(name, partial(build, data, expected))
        yield row


def _torch(
    behavior: Tensor,
    target: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
) -> list[Tensor]:
    ended = terminated | truncated
    ended[-1] = True
    alive = ~terminated
    ratio = (target - behavior).exp().clamp(max=1)
    delta = ratio * (reward + GAMMA * alive * next_value - value)
    result = value + torch_loop(GAMMA * ratio * ~ended, delta)
    following = torch.where(ended, next_value, result.roll(-1, 0))
    return [ratio * (reward + GAMMA * alive * following - value), result]


def _jax(
    behavior: Any,
    target: Any,
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    ended: Any,
) -> Any:
    numpy = load("jax.numpy")
    ratio = numpy.minimum(1, numpy.exp(target - behavior))
    discount = GAMMA * (1 - terminated)
    delta = ratio * (reward + discount * next_value - value)
    result = value + jax_scan(GAMMA * ratio * (1 - ended), delta)
    following = numpy.where(ended > 0, next_value, numpy.roll(result, -1, axis=0))
    return ratio * (reward + discount * following - value), result


def _step(inputs: Any, outputs: Any, i: Any, carry: Any) -> Any:
    """The carry is the target less the value, of the step after this one."""
    behavior, target, reward, value, next_value, terminated, truncated = inputs
    ratio = min(np.float32(1), np.exp(target[i] - behavior[i]))
    alive = np.float32(GAMMA) * np.float32(not terminated[i])
    following = next_value[i] + np.float32(not truncated[i]) * carry
    delta = reward[i] + alive * next_value[i] - value[i]
    advantage = ratio * (reward[i] + alive * following - value[i])
    carry = ratio * (delta + alive * (following - next_value[i]))
    outputs[0][i] = advantage
    outputs[1][i] = value[i] + carry
    return carry


def _rlox(data: Rollout, expected: Expected) -> Calls:
    """One env a call."""
    vtrace = load("rlox").compute_vtrace
    names = ("behavior_log_prob", "target_log_prob", "reward", "value")
    behavior, target, reward, value = (data.env_major(x) for x in data.arrays(names))
    done = data.env_major(data.terminated).astype(np.float32)
    last = data.last_value.tolist()

    def run() -> list[Any]:
        log_ratio = target - behavior
        return [
            vtrace(log_ratio[b], reward[b], value[b], done[b], last[b], GAMMA)
            for b in range(len(last))
        ]

    def read(got: list[Any]) -> list[Any]:
        targets, advantages = (np.stack(x) for x in zip(*got, strict=True))
        return [data.time_major(advantages), data.time_major(targets)]

    return proven(run, expected, read)


def _torchrl(data: Rollout, expected: Expected) -> Calls:
    names = ("target_log_prob", "behavior_log_prob", "value", "next_value", "reward")
    flags = ("terminated", "terminated")
    run = torchrl("vtrace_advantage_estimate", (GAMMA,), (*names, *flags), data)
    return proven(run, expected, lambda got: [data.time_major(x.numpy()) for x in got])

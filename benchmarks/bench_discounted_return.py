"""Discounted returns, without a bootstrap at the end of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import reference
from benchmarks.harness import Calls, Plan, Row
from benchmarks.linear_scan import jax_scan, torch_loop
from benchmarks.numba_user import add_numba, backwards
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
from benchmarks.tianshou_buffer import episodic_return
from machin_fast import ops

NAMES = ("reward", "terminated", "truncated")


def rows(plan: Plan) -> Iterator[Row]:
    for data in rollouts(plan):
        expected = [reference.discounted_return(data, GAMMA)]
        row = Row(data.name, "discounted_return", plan, items=data.reward.size)
        reward, terminated, truncated = data.tensors(NAMES, plan.device)
        inputs = (reward, None, terminated, truncated)
        demands = usual_demands(data)
        add_ours(row, ops.discounted_return, inputs, data, expected, demands, gamma=GAMMA)
        add_torch_loop(row, _torch, (reward, terminated), data, expected)
        if plan.device == "cpu":
            arrays = data.arrays(NAMES)
            kernel = partial(backwards, _step, data.reward.ndim)
            add_numba(row, "numba-user", kernel, arrays, expected)
            add_jax(row, _jax, arrays[:2], expected)
            peers: dict[str, Callable[..., Calls]] = {"torchrl": _torchrl, "tianshou": _tianshou}
            for name, build in peers.items():
                row.add(name, partial(build, data, expected))
        yield row


def _torch(reward: Tensor, terminated: Tensor) -> list[Tensor]:
    return [torch_loop(GAMMA * ~terminated, reward)]


def _jax(reward: Any, terminated: Any) -> Any:
    return [jax_scan(GAMMA * (1 - terminated), reward)]


def _step(inputs: Any, outputs: Any, i: Any, carry: Any) -> Any:
    reward, terminated, truncated = inputs
    keep = np.float32(GAMMA) * np.float32(not (terminated[i] | truncated[i]))
    carry = reward[i] + keep * carry
    outputs[0][i] = carry
    return carry


def _torchrl(data: Rollout, expected: Expected) -> Calls:
    run = partial(torchrl("reward2go", (), ("reward", "terminated"), data), GAMMA)
    return proven(run, expected, lambda got: [data.time_major(got.numpy())])


def _tianshou(data: Rollout, expected: Expected) -> Calls:
    """Its documented way to a Monte Carlo return: no values, and a lambda of 1."""
    nothing = np.zeros_like(data.reward)
    run = episodic_return(data, nothing, nothing, GAMMA, 1.0)
    return proven(run, expected, lambda got: [data.time_major(got[0])])

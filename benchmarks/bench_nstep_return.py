"""n-step returns: sum of rewards, discount of the bootstrap, and the row it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.harness import Calls, Demand, Kind, Plan, Row
from benchmarks.numba_user import add_numba
from benchmarks.peers import load, njit
from benchmarks.returns import GAMMA, Demands, Expected, add_ours, no_demands, proven
from benchmarks.rollouts import Rollout, rollouts
from benchmarks.tianshou_buffer import tianshou_buffer, tianshou_order
from machin_fast import ops

STEPS = 5
NAMES = ("reward", "terminated", "truncated")


def rows(plan: Plan) -> Iterator[Row]:
    for data in rollouts(plan):
        expected = reference.nstep_return(data, GAMMA, STEPS)
        row = Row(data.name, f"{STEPS}-step", plan, items=data.reward.size)
        inputs = data.tensors(NAMES, plan.device)
        demands = no_demands if data.flat or data.reward.size == 1 else _demands
        add_ours(row, ops.nstep_return, inputs, data, expected, demands, gamma=GAMMA, n=STEPS)
        build = partial(proven, partial(_torch_shifts, *inputs), expected)
        row.add("torch-shifts", build, Kind.PLAIN)
        if plan.device == "cpu":
            arrays = [data.reward, data.terminated, data.ended]
            kernel = partial(njit, _stream if data.flat else _rows)
            add_numba(row, "numba-user", kernel, arrays, expected)
            row.add("tianshou", partial(_tianshou, data, expected))
        yield row


def _demands(suffix: str) -> Demands:
    return (Demand(4, "torch-shifts"),)


def _torch_shifts(reward: Tensor, terminated: Tensor, truncated: Tensor) -> list[Tensor]:
    """Adds the rewards k steps ahead wherever no episode ends before them."""
    ended = terminated | truncated
    ended[-1] = True
    stays = 1 - ended.to(reward.dtype)  # as numbers: torch is slow on bool times float
    going = stays.clone()
    reward_sum = reward.clone()
    length = torch.zeros_like(reward)
    for k in range(1, min(STEPS, len(reward))):
        reward_sum[:-k].addcmul_(going[:-k], reward[k:], value=GAMMA**k)
        length += going
        going[:-k] *= stays[k:]
    step = torch.arange(len(reward), device=reward.device)
    last = length.to(torch.int64) + step.reshape(-1, *[1] * (reward.dim() - 1))
    discount = GAMMA ** (length + 1) * (1 - terminated.gather(0, last).to(reward.dtype))
    return [reward_sum, discount, last]


def _rows(inputs: Any, outputs: Any) -> None:
    reward, terminated, ended = inputs
    reward_sum, discount, last = outputs
    steps, envs = reward.shape
    for t in range(steps):
        for b in range(envs):
            end = t
            factor = np.float32(GAMMA)
            total = reward[t, b]
            while end - t < STEPS - 1 and not ended[end, b]:
                end += 1
                total += factor * reward[end, b]
                factor *= np.float32(GAMMA)
            reward_sum[t, b] = total
            discount[t, b] = factor * np.float32(not terminated[end, b])
            last[t, b] = end


def _stream(inputs: Any, outputs: Any) -> None:
    reward, terminated, ended = inputs
    reward_sum, discount, last = outputs
    for t in range(len(reward)):
        end = t
        factor = np.float32(GAMMA)
        total = reward[t]
        while end - t < STEPS - 1 and not ended[end]:
            end += 1
            total += factor * reward[end]
            factor *= np.float32(GAMMA)
        reward_sum[t] = total
        discount[t] = factor * np.float32(not terminated[end])
        last[t] = end


def _tianshou(data: Rollout, expected: Expected) -> Calls:
    """It returns the whole target, so it is given the values to bootstrap from."""
    algorithm = load("tianshou.algorithm.algorithm_base").Algorithm
    buffer, batch, indices = tianshou_buffer(data)
    value = torch.from_numpy(tianshou_order(data, data.next_value)[0])

    def run() -> Any:
        return algorithm.compute_nstep_return(
            batch, buffer, indices, lambda _, rows: value[rows], GAMMA, STEPS
        )

    reward_sum, discount, last = expected
    target = reward_sum + discount * np.take_along_axis(data.next_value, last, axis=0)
    return proven(run, [target], lambda got: [data.time_major(got.returns.numpy())])

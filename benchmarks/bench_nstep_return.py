"""n-step returns: sum of rewards, discount of the bootstrap, and the row it comes from."""

from __future__ import annotations

import math
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
from benchmarks.returns import GAMMA, Demands, Expected, add_ours, no_demands, one, proven
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
        sums, all_three = partial(_torch_sums, *inputs), partial(_torch_all, *inputs)
        # Does less than ours, but the demand was derived from it.
        row.add("torch-shifts", partial(proven, sums, expected[:1], one), Kind.PLAIN)
        row.add("torch-shifts all", partial(proven, all_three, expected), Kind.PLAIN)
        if plan.device == "cpu":
            arrays = [data.reward, data.terminated, data.ended]
            kernel = partial(njit, _stream if data.flat else _rows)
            add_numba(row, "numba-user", kernel, arrays, expected)
            row.add("tianshou", partial(_tianshou, data, expected))
        yield row


def _demands(suffix: str) -> Demands:
    return (Demand(4, "torch-shifts"),)


def _torch_sums(reward: Tensor, terminated: Tensor, truncated: Tensor) -> Tensor:
    """Adds the rewards k steps ahead wherever no episode ends before them."""
    stays = _stays(terminated, truncated, reward.dtype)
    going = stays.clone()
    reward_sum = reward.clone()
    for k in range(1, min(STEPS, len(reward))):
        reward_sum[:-k].addcmul_(going[:-k], reward[k:], value=GAMMA**k)
        going[:-k] *= stays[k:]
    return reward_sum


def _torch_all(reward: Tensor, terminated: Tensor, truncated: Tensor) -> list[Tensor]:
    """The same with what it takes to bootstrap."""
    stays = _stays(terminated, truncated, reward.dtype)
    lives = 1 - terminated.to(reward.dtype)
    going = stays.clone()
    reward_sum = reward.clone()
    ahead = torch.zeros_like(reward)
    alive = lives.clone()
    for k in range(1, min(STEPS, len(reward))):
        now = going[:-k]
        reward_sum[:-k].addcmul_(now, reward[k:], value=GAMMA**k)
        ahead += going
        alive[:-k] += now * (lives[k:] - alive[:-k])
        now *= stays[k:]
    row = torch.arange(reward.numel(), device=reward.device).view_as(reward)
    last_row = row + reward[0].numel() * ahead.to(torch.int64)
    return [reward_sum, alive * torch.exp((ahead + 1) * math.log(GAMMA)), last_row]


def _stays(terminated: Tensor, truncated: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where the next row continues the episode; a number, as bool times float is slow."""
    ended = terminated | truncated
    ended[-1] = True
    return 1 - ended.to(dtype)


def _rows(inputs: Any, outputs: Any) -> None:
    reward, terminated, ended = inputs
    reward_sum, discount, last_row = outputs
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
            last_row[t, b] = end * envs + b


def _stream(inputs: Any, outputs: Any) -> None:
    reward, terminated, ended = inputs
    reward_sum, discount, last_row = outputs
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
        last_row[t] = end


def _tianshou(data: Rollout, expected: Expected) -> Calls:
    """It returns the whole target, so it is given the values to bootstrap from."""
    algorithm = load("tianshou.algorithm.algorithm_base").Algorithm
    buffer, batch, indices = tianshou_buffer(data)
    value = torch.from_numpy(tianshou_order(data, data.next_value)[0])

    def run() -> Any:
        return algorithm.compute_nstep_return(
            batch, buffer, indices, lambda _, rows: value[rows], GAMMA, STEPS
        )

    reward_sum, discount, last_row = expected
    target = reward_sum + discount * data.next_value.ravel()[last_row]
    return proven(run, [target], lambda got: [data.time_major(got.returns.numpy())])

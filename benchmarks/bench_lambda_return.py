"""Lambda-returns, the targets of TD(lambda)."""

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
    LAM,
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

NAMES = ("reward", "next_value", "terminated", "truncated")


def rows(plan: Plan) -> Iterator[Row]:
    for data in rollouts(plan):
        expected = [reference.lambda_return(data, GAMMA, LAM)]
        row = Row(data.name, "lambda_return", plan, items=data.reward.size)
        inputs = data.tensors(NAMES, plan.device)
        demands = usual_demands(data)
        add_ours(row, ops.lambda_return, inputs, data, expected, demands, gamma=GAMMA, lam=LAM)
        add_torch_loop(row, _torch, inputs, data, expected)
        if plan.device == "cpu":
            arrays = [*data.arrays(NAMES[:3]), data.ended]
            kernel = partial(backwards, _step, data.reward.ndim)
            add_numba(row, "numba-user", kernel, arrays, expected)
            add_jax(row, _jax, arrays, expected)
            peers: dict[str, Callable[[Rollout, Expected], Calls]] = {
                "tianshou": _tianshou,
                "torchrl vec": partial(_torchrl, "vec_td_lambda_return_estimate"),
            }
            if not data.flat:
                peers["torchrl loop"] = partial(_torchrl, "td_lambda_return_estimate")
            for name, build in peers.items():
                row.add(name, partial(build, data, expected))
        yield row


def _torch(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor
) -> list[Tensor]:
    ended = terminated | truncated
    ended[-1] = True
    share = (1 - LAM) + LAM * ended
    return [torch_loop(GAMMA * LAM * ~ended, reward + GAMMA * ~terminated * share * next_value)]


def _jax(reward: Any, next_value: Any, terminated: Any, ended: Any) -> Any:
    share = (1 - LAM) + LAM * ended
    first = reward + GAMMA * (1 - terminated) * share * next_value
    return [jax_scan(GAMMA * LAM * (1 - ended), first)]


def _step(inputs: Any, outputs: Any, i: Any, carry: Any) -> Any:
    reward, next_value, terminated, ended = inputs
    alive = np.float32(GAMMA) * np.float32(not terminated[i])
    keep = np.float32(LAM) * np.float32(not ended[i])
    carry = reward[i] + alive * ((np.float32(1) - keep) * next_value[i] + keep * carry)
    outputs[0][i] = carry
    return carry


def _tianshou(data: Rollout, expected: Expected) -> Calls:
    run = episodic_return(data, data.value, data.next_value, GAMMA, LAM)
    return proven(run, expected, lambda got: [data.time_major(got[0])])


def _torchrl(function: str, data: Rollout, expected: Expected) -> Calls:
    names = ("next_value", "reward", "terminated", "terminated")
    run = torchrl(function, (GAMMA, LAM), names, data)
    return proven(run, expected, lambda got: [data.time_major(got.numpy())])

"""Retrace(lambda) targets. No peer library offers them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import reference
from benchmarks.harness import Plan, Row
from benchmarks.linear_scan import jax_scan, torch_loop
from benchmarks.numba_user import add_numba, backwards
from benchmarks.peers import load
from benchmarks.returns import GAMMA, LAM, add_jax, add_ours, add_torch_loop, usual_demands
from benchmarks.rollouts import rollouts
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
        expected = [reference.retrace(data, GAMMA, LAM)]
        row = Row(data.name, "retrace", plan, items=data.reward.size)
        inputs = data.tensors(NAMES, plan.device)
        demands = usual_demands(data, library=False)
        add_ours(row, ops.retrace, inputs, data, expected, demands, gamma=GAMMA, lam=LAM)
        add_torch_loop(row, _torch, inputs[:6], data, expected)
        if plan.device == "cpu":
            arrays = data.arrays(NAMES)
            kernel = partial(backwards, _step, data.reward.ndim)
            add_numba(row, "numba-user", kernel, arrays, expected)
            add_jax(row, _jax, arrays[:6], expected)
        yield row


def _torch(
    behavior: Tensor,
    target: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
) -> list[Tensor]:
    discount = GAMMA * ~terminated
    following = LAM * (target - behavior).exp().clamp(max=1).roll(-1, 0)
    delta = reward + discount * next_value - value
    return [value + torch_loop(discount * following, delta)]


def _jax(
    behavior: Any, target: Any, reward: Any, value: Any, next_value: Any, terminated: Any
) -> Any:
    numpy = load("jax.numpy")
    discount = GAMMA * (1 - terminated)
    following = LAM * numpy.roll(numpy.minimum(1, numpy.exp(target - behavior)), -1, axis=0)
    delta = reward + discount * next_value - value
    return [value + jax_scan(discount * following, delta)]


def _step(inputs: Any, outputs: Any, i: Any, carry: Any) -> Any:
    """The carry is the target less the value, of the step after this one, times its coefficient."""
    behavior, target, reward, value, next_value, terminated, truncated = inputs
    discount = np.float32(GAMMA) * np.float32(not terminated[i])
    correction = np.float32(not truncated[i]) * carry
    excess = reward[i] + discount * (next_value[i] + correction) - value[i]
    outputs[0][i] = value[i] + excess
    return np.float32(LAM) * min(np.float32(1), np.exp(target[i] - behavior[i])) * excess

"""Rollouts that all estimators and all their peers agree on.

Most peers know a single ``done`` flag and read V(s_{t+1}) off the next row. So here episodes end
by termination only (the value of the next state is not used there) and ``next_value`` is the next
row's value. Ours reads all five arrays nonetheless; truncation is tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness import Plan

# Mean steps of an episode.
EPISODE = 200


@dataclass(frozen=True)
class Rollout:
    """``[steps, envs]``, or flat ``[steps]`` with the ``bounds`` of its episodes."""

    name: str
    reward: NDArray[np.float32]
    value: NDArray[np.float32]
    next_value: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    behavior_log_prob: NDArray[np.float32]
    target_log_prob: NDArray[np.float32]
    bounds: NDArray[np.int64] | None

    @property
    def flat(self) -> bool:
        return self.bounds is not None

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Where a trace is cut: at the end of an episode and at the last row."""
        ended = self.terminated | self.truncated
        ended[-1] = True
        return ended

    @property
    def last_value(self) -> NDArray[np.float32]:
        """``[envs]``, V of the state after the last row."""
        return np.atleast_1d(self.next_value[-1])

    def arrays(self, names: tuple[str, ...]) -> list[NDArray[Any]]:
        return [getattr(self, name) for name in names]

    def tensors(self, names: tuple[str, ...], device: str) -> list[Tensor]:
        return [torch.from_numpy(array).to(device) for array in self.arrays(names)]

    def env_major(self, array: NDArray[Any]) -> NDArray[Any]:
        """``[envs, steps]``, contiguous: the layout of peers that go through one env at a time."""
        return np.ascontiguousarray(np.atleast_2d(array.T))

    def time_major(self, array: NDArray[Any]) -> NDArray[Any]:
        """Undoes ``env_major``, whatever shape ``array`` has now."""
        shape = self.env_major(self.reward).shape
        return np.asarray(array.reshape(shape).T.reshape(self.reward.shape))


def rollouts(plan: Plan) -> Iterator[Rollout]:
    """One step of one env shows the cost of a call; the others are the sizes users have."""
    shapes = ((1, 1), (128, 1024)) if plan.quick else ((1, 1), (128, 1024), (2048, 64))
    for steps, envs in shapes:
        yield _rollout(f"{steps}x{envs}", (steps, envs))
    steps = 100_000 if plan.quick else 1_000_000
    yield _rollout(f"flat {steps:.0e}".replace("e+0", "e"), (steps,))


def _rollout(name: str, shape: tuple[int, ...]) -> Rollout:
    random = np.random.default_rng(0)

    def normal(*size: int) -> NDArray[np.float32]:
        return random.standard_normal(size, dtype=np.float32)

    value = normal(shape[0] + 1, *shape[1:])
    terminated = random.random(shape) < 1 / EPISODE
    bounds = None
    if len(shape) == 1:
        terminated[-1] = True
        bounds = np.concatenate([[0], np.flatnonzero(terminated) + 1])
    return Rollout(
        name=name,
        reward=normal(*shape),
        value=value[:-1].copy(),
        next_value=value[1:].copy(),
        terminated=terminated,
        truncated=np.zeros(shape, dtype=np.bool_),
        behavior_log_prob=0.3 * normal(*shape) - 1,
        target_log_prob=0.3 * normal(*shape) - 1,
        bounds=bounds,
    )

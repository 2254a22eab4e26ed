"""An environment and an algorithm that count, to see what a trainer does with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from machin_fast.data import Trajectory


class Count(gymnasium.Env[Any, Any]):
    """Episodes of ``length`` steps, each rewarded by 1; shows the seed and the step."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int = 5) -> None:
        self.length = length
        self.seeds: list[int] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seeds.append(seed)
        self.step_count = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.step_count += 1
        return self._observation(), 1.0, self.step_count == self.length, False, {}

    def _observation(self) -> Any:
        return np.array([self.seeds[-1], self.step_count], np.float64)


def count_envs(n: int, length: int = 5) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Count(length)] * n, autoreset_mode=AutoresetMode.SAME_STEP)


class Counter:
    """Notes what it is asked for. A user's own algorithm needs no more than this."""

    discount = 0.5

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stored: list[Trajectory] = []
        self.updates = 0
        self.epsilon = -1.0
        self.epsilons: list[float] = []

    def act(self, state: Mapping[str, Tensor]) -> Tensor:
        self.epsilons.append(self.epsilon)
        return torch.zeros(len(state["state"]), dtype=torch.int64)

    def store(self, trajectory: Trajectory) -> None:
        self.calls.append("store")
        self.stored.append(trajectory)

    def update(self) -> dict[str, float]:
        self.calls.append("update")
        self.updates += 1
        return {"loss": float(self.updates)}

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]

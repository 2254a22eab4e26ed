"""Environments that show which step of which episode they are in."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

NUM_ENVS = 3
MODES = list(AutoresetMode)


class Counting(gymnasium.Env):
    """Shows its number, the episode and the step; episodes end in turns of 1 to 4 steps."""

    action_space = Discrete(5)
    observation_space = Box(0, 1e6, (3,), np.float64)

    def __init__(self, number: int) -> None:
        self.number, self.episode = number, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        ended = self.t == 1 + (self.episode + self.number) % 4
        terminated, truncated = ended and self.episode % 2 == 0, ended and self.episode % 2 == 1
        return self._observe(), float(10 * self.t + action), terminated, truncated, {}

    def _observe(self):
        return np.array([self.number, self.episode, self.t], np.float64)


def make(mode: AutoresetMode, num_envs: int = NUM_ENVS, **options) -> SyncVectorEnv:
    factories = [lambda i=i: Counting(i) for i in range(num_envs)]
    return SyncVectorEnv(factories, autoreset_mode=mode, **options)


def choose(state) -> torch.Tensor:
    """Any rule by which actions differ, ``[envs, 1]``."""
    return (state["state"].sum(dim=1, keepdim=True).long() * 7) % 5


def plain_loop(number: int, steps: int) -> tuple[list[tuple], list[float], list[int]]:
    """Transitions of one environment, and returns and lengths of its episodes."""
    env, transitions, returns, lengths = Counting(number), [], [], []
    state, _ = env.reset()
    total, length = 0.0, 0
    for _ in range(steps):
        action = choose({"state": torch.from_numpy(state)[None]})[0].tolist()
        next_state, reward, terminated, truncated, _ = env.step(action[0])
        transitions.append(
            (state.tolist(), action, reward, next_state.tolist(), terminated, truncated)
        )
        total, length, state = total + reward, length + 1, next_state
        if terminated or truncated:
            returns.append(total)
            lengths.append(length)
            total, length = 0.0, 0
            state, _ = env.reset()
    return transitions, returns, lengths


def transitions(trajectory, number: int) -> list[tuple]:
    """The rows of one environment, as those of ``plain_loop``."""
    columns = (
        trajectory["state"], trajectory["action"], trajectory["reward"], trajectory.next("state"),
        trajectory["terminated"], trajectory["truncated"],
    )  # fmt: skip
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [row for row in rows if row[0][0] == number]

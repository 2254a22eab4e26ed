"""Collecting rollouts from a vector of environments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from machin_fast.utils.stages import Stages


@dataclass(frozen=True)
class Rollout:
    """Consecutive steps of a vector of environments, ``[steps, envs]``, on the CPU.

    Attributes:
        state: ``[steps, envs, ...]``, what was observed before each step.
        action: ``[steps, envs, ...]``.
        reward: ``[steps, envs]``, float32.
        next_state: Like ``state``, what was observed after it; of an episode's last step its
            final observation, never the first one of the next episode.
        terminated, truncated: ``[steps, envs]``, bool.
        valid: ``[steps, envs]``, bool. False where the environment only reset itself: such a row
            is no transition.
        episode_returns: Sums of rewards of the episodes that ended here, first ended first.
    """

    state: Tensor
    action: Tensor
    reward: Tensor
    next_state: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor
    episode_returns: list[float]


class Collector:
    """Steps a Gymnasium vector environment and records what happens.

    Environments that reset themselves in the step after an episode's last (Gymnasium's default)
    and in that step itself give the same transitions; ``metadata["autoreset_mode"]`` tells which.

    Args:
        envs: The environments, with observations in one ``Box``. Reset here.
        act: Chooses actions ``[envs, ...]`` for observations ``[envs, ...]``, which are a tensor
            on the CPU; the actions may be on any device.
        seed: Of the environments.
        stages: Where to count the time of the stages ``act`` and ``env``.

    Raises:
        ValueError: The observations are no ``Box``, or the environments do not reset themselves.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        act: Callable[[Tensor], Tensor],
        *,
        seed: int | None = None,
        stages: Stages | None = None,
    ) -> None:
        space = envs.single_observation_space
        if not isinstance(space, Box):
            raise ValueError(f"Collector: envs must have observations in a Box, got {space}")
        mode = envs.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            raise ValueError(
                "Collector: envs must reset themselves (autoreset_mode NEXT_STEP or SAME_STEP), "
                f"got {mode}"
            )
        self._envs = envs
        self._act = act
        self._stages = Stages() if stages is None else stages
        self._resets_in_next_step = mode == AutoresetMode.NEXT_STEP
        self._observation, _ = envs.reset(seed=seed)
        self._resetting = np.zeros(envs.num_envs, dtype=bool)
        self._episode_return = np.zeros(envs.num_envs)

    def steps(self, n: int) -> Rollout:
        """Takes ``n`` steps in each environment.

        Args:
            n: Number of steps, at least 1.

        Returns:
            The rollout, in memory of its own.
        """
        envs, space, actions = self._envs, self._envs.single_observation_space, []
        shape = (n, envs.num_envs)
        state = np.empty((*shape, *(space.shape or ())), space.dtype)
        next_state = np.empty_like(state)
        reward = np.empty(shape, np.float32)
        terminated, truncated, valid = np.empty((3, *shape), bool)
        returns: list[float] = []
        for t in range(n):
            state[t] = self._observation
            with self._stages("act"):
                actions.append(self._act(torch.from_numpy(state[t])).cpu())
            with self._stages("env"):
                self._observation, reward[t], terminated[t], truncated[t], info = envs.step(
                    actions[t].numpy()
                )
            next_state[t] = self._observation
            valid[t] = ~self._resetting
            self._episode_return += reward[t]
            ended = terminated[t] | truncated[t]
            if ended.any():
                returns += self._episode_return[ended].tolist()
                self._episode_return[ended] = 0
                if not self._resets_in_next_step:
                    next_state[t, ended] = np.stack(info["final_obs"][ended])
            if self._resets_in_next_step:
                self._resetting = ended
        return Rollout(
            torch.from_numpy(state),
            torch.stack(actions),
            torch.from_numpy(reward),
            torch.from_numpy(next_state),
            torch.from_numpy(terminated),
            torch.from_numpy(truncated),
            torch.from_numpy(valid),
            returns,
        )

"""How well a policy does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor


@torch.inference_mode()
def evaluate(
    envs: VectorEnv[Any, Any, Any], act: Callable[[Tensor], Tensor], *, seed: int | None = None
) -> NDArray[np.float64]:
    """Runs one episode in each environment.

    All are reset first. What happens in an environment after its episode counts nothing, so short
    episodes are not over-represented, and it does not matter how the environments reset.

    Args:
        envs: Environments for this purpose alone.
        act: Chooses actions ``[envs, ...]`` for observations ``[envs, ...]``, which are a tensor
            on the CPU; the actions may be on any device.
        seed: Of the episodes. None: whatever comes next in each environment.

    Returns:
        ``[envs]``, the sum of rewards of each episode.
    """
    observation, _ = envs.reset(seed=seed)
    returns = np.zeros(envs.num_envs)
    running = np.ones(envs.num_envs, dtype=bool)
    while running.any():
        action = act(torch.as_tensor(observation)).cpu().numpy()
        observation, reward, terminated, truncated, _ = envs.step(action)
        returns += np.where(running, reward, 0)
        running &= ~(terminated | truncated)
    return returns

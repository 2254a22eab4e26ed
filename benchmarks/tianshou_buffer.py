"""Rollouts in tianshou's own container: one env after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import load
from benchmarks.rollouts import Rollout


def tianshou_order(data: Rollout, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
    return [data.env_major(x).ravel() for x in arrays]


def tianshou_buffer(data: Rollout) -> tuple[Any, Any, Any]:
    """Buffer, batch of all its steps, and their indices.

    The last step of each env is flagged truncated, which is how tianshou is told of a border.

    Raises:
        PeerError: tianshou does not import.
    """
    reward, terminated, done = tianshou_order(data, data.reward, data.terminated, data.ended)
    nothing = np.zeros((len(reward), 1), np.float32)
    buffer = load("tianshou.data").ReplayBuffer.from_data(
        obs=nothing,
        act=nothing,
        rew=reward,
        terminated=terminated,
        truncated=done & ~terminated,
        done=done,
        obs_next=nothing,
    )
    indices = np.arange(len(reward))
    buffer.last_index = indices[-1:]  # from_data leaves it at row 0, which then ends an episode
    return buffer, buffer[indices], indices


def episodic_return(
    data: Rollout, value: NDArray[Any], next_value: NDArray[Any], gamma: float, lam: float
) -> Callable[[], Any]:
    """Returns and advantages, as tianshou's policies compute them.

    Raises:
        PeerError: tianshou does not import.
    """
    algorithm = load("tianshou.algorithm.algorithm_base").Algorithm
    buffer, batch, indices = tianshou_buffer(data)
    v, next_v = (torch.from_numpy(x) for x in tianshou_order(data, value, next_value))
    return lambda: algorithm.compute_episodic_return(
        batch, buffer, indices, next_v, v, gamma=gamma, gae_lambda=lam
    )

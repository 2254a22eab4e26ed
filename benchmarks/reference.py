"""Estimators as their papers write them: plain numpy, float64, one step after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rollouts import Rollout

Array = NDArray[np.float64]


def gae(data: Rollout, gamma: float, lam: float) -> tuple[Array, Array]:
    """Advantage and value target. Schulman et al. 2016, arXiv:1506.02438, equation 16."""
    advantage = _backwards(gamma * lam * ~data.ended, _delta(data, gamma))
    return advantage, advantage + data.value


def discounted_return(data: Rollout, gamma: float) -> Array:
    """Sum of discounted rewards to the end of the episode or of the data."""
    return _backwards(gamma * ~data.ended, data.reward.astype(np.float64))


def lambda_return(data: Rollout, gamma: float, lam: float) -> Array:
    """Sutton and Barto 2018, equation 12.20; one-step where the trace is cut."""
    share = np.where(data.ended, 1.0, 1 - lam)
    first = data.reward + gamma * ~data.terminated * share * data.next_value
    return _backwards(gamma * lam * ~data.ended, first)


def vtrace(data: Rollout, gamma: float) -> tuple[Array, Array]:
    """Advantage and value target, all clips at 1. Espeholt et al. 2018, arXiv:1802.01561, eq. 1."""
    ratio = np.minimum(1, _ratio(data))
    target = data.value + _backwards(gamma * ratio * ~data.ended, ratio * _delta(data, gamma))
    following = np.where(data.ended, data.next_value, np.roll(target, -1, axis=0))
    advantage = ratio * (data.reward + gamma * ~data.terminated * following - data.value)
    return advantage.astype(np.float64), target


def retrace(data: Rollout, gamma: float, lam: float) -> Array:
    """Target of Q(s, a). Munos et al. 2016, arXiv:1606.02647, equation 3."""
    coefficient = lam * np.minimum(1, _ratio(data))
    following = np.roll(coefficient, -1, axis=0)
    return data.value + _backwards(gamma * following * ~data.ended, _delta(data, gamma))


def nstep_return(data: Rollout, gamma: float, n: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """Reward sums, discounts of the bootstrap, and its rows, counted in the flattened rollout."""
    row = np.arange(data.reward.size).reshape(data.reward.shape)
    envs = data.reward[0].size
    reward, ended = data.reward.ravel(), data.ended.ravel()
    reward_sum = data.reward.astype(np.float64)
    last, going = row, ~data.ended
    for k in range(1, n):
        ahead = np.minimum(row + k * envs, row[-1])
        reward_sum += going * gamma**k * reward[ahead]
        last = np.where(going, ahead, last)
        going = going & ~ended[ahead]
    steps = (last - row) // envs + 1
    return reward_sum, gamma**steps * ~data.terminated.ravel()[last], last


def _delta(data: Rollout, gamma: float) -> Array:
    """One-step temporal difference."""
    value, next_value = data.value.astype(np.float64), data.next_value.astype(np.float64)
    return np.asarray(data.reward + gamma * next_value * ~data.terminated - value)


def _ratio(data: Rollout) -> Array:
    log_ratio = data.target_log_prob.astype(np.float64) - data.behavior_log_prob
    return np.asarray(np.exp(log_ratio))


def _backwards(factor: NDArray[Any], term: Array) -> Array:
    """x_t = term_t + factor_t * x_{t+1}, with 0 after the last row."""
    x = np.zeros_like(term)
    following: Any = 0.0
    for t in range(len(term) - 1, -1, -1):
        following = x[t] = term[t] + factor[t] * following
    return x

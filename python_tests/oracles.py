"""Return estimators as the papers write them: sums over what follows a step, in float64.

Slow on purpose, and without a line of ours. Arrays are ``[steps, envs]``, or flat ``[N]`` with
``bounds``. What follows a step reaches to the first cut: a step that is terminated or truncated,
or the last of its rollout or segment. A cut that is no termination bootstraps from its own next
value; a terminated step has no next value, whatever stands there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Row = tuple[int, ...]


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Flags,
    truncated: Flags,
    *,
    gamma: float,
    lam: float,
    bounds: NDArray[np.int64] | None = None,
) -> tuple[Array, Array]:
    """Advantage and value target. Schulman et al. 2016, arXiv:1506.02438, equation 16."""
    advantage = np.zeros(reward.shape)
    for window in windows(terminated, truncated, bounds):
        for steps, i in enumerate(window):
            delta = reward[i] + gamma * after(i, next_value, terminated) - value[i]
            advantage[window[0]] += (gamma * lam) ** steps * delta
    return advantage, advantage + value


def vtrace(
    behavior_log_prob: Array,
    target_log_prob: Array,
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Flags,
    truncated: Flags,
    *,
    gamma: float,
    lam: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    advantage_rho_clip: float = 1.0,
    bounds: NDArray[np.int64] | None = None,
) -> tuple[Array, Array]:
    """Advantage and value target. Espeholt et al. 2018, arXiv:1802.01561, eq. 1 and section 4.2.

    The advantage bootstraps from the target of the next state. That is its value as seen from
    this step, ``next_value``, plus what the trace adds to it.
    """
    added = np.zeros(reward.shape)
    advantage = np.zeros(reward.shape)
    for window in windows(terminated, truncated, bounds):
        trace = 1.0
        for steps, i in enumerate(window):
            ratio = _ratio(i, behavior_log_prob, target_log_prob)
            delta = reward[i] + gamma * after(i, next_value, terminated) - value[i]
            added[window[0]] += gamma**steps * trace * min(rho_clip, ratio) * delta
            trace *= lam * min(c_clip, ratio)
    for window in windows(terminated, truncated, bounds):
        i = window[0]
        next_target = after(i, next_value, terminated) + (added[window[1]] if window[1:] else 0)
        ratio = _ratio(i, behavior_log_prob, target_log_prob)
        advantage[i] = min(advantage_rho_clip, ratio) * (reward[i] + gamma * next_target - value[i])
    return advantage, value + added


def discounted_return(
    reward: Array,
    next_value: Array | None,
    terminated: Flags,
    truncated: Flags,
    *,
    gamma: float,
    bounds: NDArray[np.int64] | None = None,
) -> Array:
    """Sutton and Barto 2018, equation 3.9. Without ``next_value``, cuts bootstrap from 0."""
    result = np.zeros(reward.shape)
    for window in windows(terminated, truncated, bounds):
        result[window[0]] = _nstep(window, reward, next_value, terminated, gamma)
    return result


def lambda_return(
    reward: Array,
    next_value: Array,
    terminated: Flags,
    truncated: Flags,
    *,
    gamma: float,
    lam: float,
    bounds: NDArray[np.int64] | None = None,
) -> Array:
    """Sutton and Barto 2018, equation 12.3: the mean of n-step returns, all weights written out."""
    result = np.zeros(reward.shape)
    for window in windows(terminated, truncated, bounds):
        for n in range(1, len(window) + 1):
            weight = lam ** (n - 1) * (1 - lam if n < len(window) else 1)
            result[window[0]] += weight * _nstep(window[:n], reward, next_value, terminated, gamma)
    return result


def retrace(
    behavior_log_prob: Array,
    target_log_prob: Array,
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Flags,
    truncated: Flags,
    *,
    gamma: float,
    lam: float = 1.0,
    bounds: NDArray[np.int64] | None = None,
) -> Array:
    """Target of Q(s, a). Munos et al. 2016, arXiv:1606.02647, equations 3 and 4."""
    result = value.copy()
    for window in windows(terminated, truncated, bounds):
        trace = 1.0
        for steps, i in enumerate(window):
            if steps > 0:
                trace *= lam * min(1.0, _ratio(i, behavior_log_prob, target_log_prob))
            delta = reward[i] + gamma * after(i, next_value, terminated) - value[i]
            result[window[0]] += gamma**steps * trace * delta
    return result


def nstep_return(
    reward: Array,
    terminated: Flags,
    truncated: Flags,
    *,
    gamma: float,
    n: int,
    bounds: NDArray[np.int64] | None = None,
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Reward sum, discount and last row, flattened. Sutton and Barto 2018, equation 7.1."""
    reward_sum = np.zeros(reward.shape)
    discount = np.zeros(reward.shape)
    last_row = np.zeros(reward.shape, dtype=np.int64)
    for window in windows(terminated, truncated, bounds):
        first, last = window[0], window[:n][-1]
        reward_sum[first] = _nstep(window[:n], reward, None, terminated, gamma)
        discount[first] = 0 if terminated[last] else gamma ** len(window[:n])
        last_row[first] = np.ravel_multi_index(last, reward.shape)
    return reward_sum, discount, last_row


def recordings(shape: tuple[int, ...], bounds: Any = None) -> Iterator[list[Row]]:
    """The rows of each env, or of each segment, in time order."""
    if len(shape) == 2:
        for env in range(shape[1]):
            yield [(step, env) for step in range(shape[0])]
    else:
        ends = [0, shape[0]] if bounds is None else [int(bound) for bound in bounds]
        for begin, end in itertools.pairwise(ends):
            yield [(row,) for row in range(begin, end)]


def windows(terminated: Flags, truncated: Flags, bounds: Any = None) -> Iterator[list[Row]]:
    """For each row: the row, and what follows it to the first cut, which is included."""
    for rows in recordings(terminated.shape, bounds):
        for first in range(len(rows)):
            end = first + 1
            while end < len(rows) and not (terminated[rows[end - 1]] or truncated[rows[end - 1]]):
                end += 1
            yield rows[first:end]


def after(i: Row, next_value: Array, terminated: Flags) -> float:
    """V of the state after row i."""
    return 0.0 if terminated[i] else float(next_value[i])


def _ratio(i: Row, behavior_log_prob: Array, target_log_prob: Array) -> float:
    difference = float(target_log_prob[i] - behavior_log_prob[i])
    return math.inf if difference > 700 else math.exp(difference)


def _nstep(
    window: list[Row], reward: Array, next_value: Array | None, terminated: Flags, gamma: float
) -> float:
    """The rewards of the window, and the value of the state after it."""
    total = sum(gamma**steps * float(reward[i]) for steps, i in enumerate(window))
    if next_value is not None:
        total += gamma ** len(window) * after(window[-1], next_value, terminated)
    return total

"""How many workers pay, and who steps which environments."""

from __future__ import annotations

import copy
import os
import time
from statistics import median
from typing import Any

from gymnasium import Env

# Seconds by which a step of all environments is longer with workers: they sleep while a policy
# thinks, and wake with cold caches. Measured with 0.3 to 2 ms between steps: 10 to 90 us; where
# steps follow each other at once and workers wait awake, 10 us.
_COST = 75e-6
# Workers must make it shorter by this much.
_LEAST_GAIN = 0.9
_PROBE_SECONDS = 0.005
_PROBE_STEPS = 3, 200


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def seconds_per_step(env: Env[Any, Any]) -> float:
    """How long an environment takes for a step: the median of some milliseconds of random ones.

    Always the same ones, by a space of its own: environments may share theirs.
    """
    clock = time.perf_counter
    actions = copy.deepcopy(env.action_space)
    actions.seed(0)
    least, most = _PROBE_STEPS
    times: list[float] = []
    end = clock() + _PROBE_SECONDS
    env.reset(seed=0)
    while len(times) < most and (len(times) < least or clock() < end):
        action = actions.sample()
        begin = clock()
        _, _, terminated, truncated, _ = env.step(action)
        times.append(clock() - begin)
        if terminated or truncated:
            env.reset()
    return median(times)


def best_num_workers(seconds: float, num_envs: int, available: int, *, step_in_parent: bool) -> int:
    """The number of workers with which a step of all environments is shortest.

    Args:
        seconds: That one environment takes for a step.
        num_envs: How many there are.
        available: Cores.
        step_in_parent: Does the parent step a share?

    Returns:
        The number; 0 if workers do not pay, but at least 1 where the parent steps none.
    """
    if not step_in_parent:
        return max(1, min(available, num_envs))
    best, shortest = 0, _LEAST_GAIN * num_envs * seconds
    for workers in range(1, min(available, num_envs)):
        time_of_all = -(-num_envs // (workers + 1)) * seconds + _COST
        if time_of_all < shortest:
            best, shortest = workers, time_of_all
    return best


def shares(num_envs: int, num_workers: int, *, step_in_parent: bool) -> tuple[range, list[range]]:
    """Splits the environments into parts that differ by one at most.

    Returns:
        The parent's, and for each worker its own. The parent's are the first ones.
    """
    parts = num_workers + step_in_parent
    sizes = [num_envs // parts + (part < num_envs % parts) for part in range(parts)]
    if step_in_parent:
        sizes.reverse()  # the parent has the rest of the program to run: none of the larger parts
    else:
        sizes.insert(0, 0)
    begin, found = 0, []
    for size in sizes:
        found.append(range(begin, begin + size))
        begin += size
    return found[0], found[1:]

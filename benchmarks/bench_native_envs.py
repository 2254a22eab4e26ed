"""One step of many of Gymnasium's classic environments: who steps them in compiled code, and not.

The policy acts at random, so that CartPole's episodes end often: after 22 steps in the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmarks.harness import Calls, Demand, Kind, Plan, Row
from benchmarks.peers import load
from machin_fast.env import NativeEnv

ENVS = (8, 32, 64, 1024)
# Rows of these are of 64 environments.
OTHERS = ("Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0")
# Sets of actions, taken in turn.
SETS = 64
HOLD = (Demand(1, "rlox"),)

Array = np.ndarray[Any, Any]
# Takes actions, and returns observations and rewards.
Step = Callable[[Any], tuple[Any, Any]]


def rows(plan: Plan) -> Iterator[Row]:
    for n in ENVS[:1] if plan.quick else ENVS:
        yield _row("CartPole-v1", n, plan)
    for env_id in () if plan.quick else OTHERS:
        yield _row(env_id, 64, plan)


def _row(env_id: str, n: int, plan: Plan) -> Row:
    row = Row(env_id, f"step {n} envs", plan, items=n)
    cartpole = env_id == "CartPole-v1"
    demands = HOLD if cartpole and n <= 64 and plan.device == "cpu" else ()
    ours = partial(_ours, env_id, n, plan)
    if plan.device == "cuda":
        row.add("ours", partial(ours, output="torch", check=False), Kind.OURS)
        row.add("ours check=True", partial(ours, output="torch"), Kind.OURS)
        return row
    row.add("ours", ours, Kind.OURS, demands=demands)
    row.add("ours same-step", partial(ours, mode="SameStep"), Kind.OURS, demands=demands)
    row.add("ours tensors", partial(ours, output="torch"), Kind.OURS, demands=demands)
    row.add("envpool", partial(_envpool, env_id, n, plan))
    row.add("gymnasium sync", partial(_gymnasium, env_id, n, "sync"))
    if cartpole:
        row.add("rlox", partial(_rlox, n))
        row.add("gymnasium vector", partial(_gymnasium, env_id, n, "vector_entry_point"))
    return row


def _ours(
    env_id: str,
    n: int,
    plan: Plan,
    *,
    mode: str = "NextStep",
    output: Any = None,
    check: bool = True,
) -> Calls:
    env = NativeEnv(env_id, n, device=plan.device, autoreset_mode=mode, output=output, check=check)
    observation, _ = env.reset(seed=0)
    convert = partial(torch.tensor, device=plan.device) if output == "torch" else np.asarray

    def step(actions: Any) -> tuple[Any, Any]:
        after, reward, *_ = env.step(actions)
        return after, reward

    return _proven(env_id, observation, step, env.step, n, convert)


def _envpool(env_id: str, n: int, plan: Plan) -> Calls:
    env = load("envpool").make_gymnasium(env_id, num_envs=n, num_threads=plan.threads, seed=0)
    observation, _ = env.reset()
    integers = np.issubdtype(env.action_space.dtype, np.integer)
    convert = partial(np.asarray, dtype=np.int32 if integers else np.float32)
    return _proven(env_id, observation, lambda x: env.step(x)[:2], env.step, n, convert)


def _gymnasium(env_id: str, n: int, mode: str) -> Calls:
    env = gymnasium.make_vec(env_id, num_envs=n, vectorization_mode=mode)
    observation, _ = env.reset(seed=0)
    return _proven(env_id, observation, lambda x: env.step(x)[:2], env.step, n, np.asarray)


def _rlox(n: int) -> Calls:
    env = load("rlox").VecEnv(n)
    observation = env.reset_all()

    def step(actions: Any) -> tuple[Any, Any]:
        found = env.step_all(actions)
        return found["obs"], found["rewards"]

    convert = partial(np.asarray, dtype=np.uint32)
    return _proven("CartPole-v1", observation, step, env.step_all, n, convert)


def _proven(
    env_id: str,
    observation: Any,
    step: Step,
    run: Callable[..., object],
    n: int,
    convert: Callable[[Array], Any],
) -> Calls:
    """Calls with actions of the right kind, once a step was what Gymnasium makes of it."""
    with gymnasium.make(env_id) as one:
        space = gymnasium.vector.utils.batch_space(one.action_space, n)
    space.seed(0)
    actions = [space.sample() for _ in range(SETS)]
    before = _as_array(observation).copy()
    after, reward = (_as_array(x) for x in step(convert(actions[0])))
    for i in range(min(n, 16)):
        want, gain = _reference(env_id, before[i], actions[0][i])
        assert np.abs(after[i] - want).max() < 1e-5, f"{after[i]} is not {want}"
        assert abs(reward[i] - gain) < 1e-5, f"{reward[i]} is not {gain}"
    inputs = [(convert(x),) for x in actions]
    return Calls(run, cycle(inputs))


def _as_array(x: Any) -> Array:
    return x.cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def _reference(env_id: str, observation: Array, action: Any) -> tuple[Array, float]:
    env: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    env.reset(seed=0)
    seen = observation.astype(np.float64)
    if env_id == "Pendulum-v1":
        env.state = np.array([np.arctan2(seen[1], seen[0]), seen[2]])
    elif env_id == "Acrobot-v1":
        env.state = np.array(
            [np.arctan2(seen[1], seen[0]), np.arctan2(seen[3], seen[2]), *seen[4:]]
        )
    else:
        env.state = seen
    after, reward, *_ = env.step(action)
    return after, float(reward)

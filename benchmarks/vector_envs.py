"""Many environments as one, by every library that does so: reset, step, close.

The peers' processes are forked, as that is quick and shares what they import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np

from benchmarks.peers import PeerError, load
from machin_fast.env import ActorPool

Array = np.ndarray[Any, Any]
Make = Callable[[], "gymnasium.Env[Any, Any]"]
SEED = 5
# Libraries that start a process for each environment are left out beyond this; torchrl, which
# is 50 times slower than others, earlier.
MOST_PROCESSES = 64
MOST_OF_TORCHRL = 8


@dataclass(frozen=True)
class Vector:
    """What the benchmark needs of a library's vector of environments."""

    # The first observations.
    reset: Callable[[], Any]
    # Takes int64 actions; what comes first in its result are the observations.
    step: Callable[[Array], Any]
    close: Callable[[], None]
    # Environment i is seeded with SEED + i ("each") or SEED ("same"), or in the library's own way.
    seeds: Literal["each", "same", "own"] = "each"


def ours(makes: Sequence[Make], *, num_workers: int | None, copy: bool = True) -> Vector:
    return _gymnasium_like(ActorPool(makes, num_workers=num_workers, copy=copy))


def gym_sync(makes: Sequence[Make]) -> Vector:
    return _gymnasium_like(gymnasium.vector.SyncVectorEnv(makes))


def gym_async(makes: Sequence[Make]) -> Vector:
    return _gymnasium_like(gymnasium.vector.AsyncVectorEnv(makes))


def _gymnasium_like(envs: Any) -> Vector:
    return Vector(lambda: envs.reset(seed=SEED)[0], envs.step, envs.close)


def stable_baselines(makes: Sequence[Make], *, processes: bool) -> Vector:
    module = load("stable_baselines3.common.vec_env")
    envs: Any = None
    if processes:
        envs = module.SubprocVecEnv(list(makes), start_method="fork")
    else:
        envs = module.DummyVecEnv(list(makes))

    def reset() -> Any:
        envs.seed(SEED)
        return envs.reset()

    return Vector(reset, envs.step, envs.close)


def tianshou(makes: Sequence[Make], *, kind: str) -> Vector:
    envs = getattr(load("tianshou.env"), kind)(list(makes))
    return Vector(lambda: envs.reset(seed=SEED)[0], envs.step, envs.close, "same")


def puffer_serial(makes: Sequence[Make]) -> Vector:
    vector, emulation = load("pufferlib.vector"), load("pufferlib.emulation")

    def make(make: Make, buf: Any = None, seed: int = 0) -> Any:
        return emulation.GymnasiumPufferEnv(env_creator=make, buf=buf, seed=seed)

    creators = [partial(make, each) for each in makes]
    envs = vector.make(
        creators, env_args=[[]] * len(makes), env_kwargs=[{}] * len(makes),
        backend=vector.Serial, num_envs=len(makes), seed=SEED,
    )  # fmt: skip
    return Vector(lambda: envs.reset(seed=SEED)[0], envs.step, envs.close)


def torchrl(makes: Sequence[Make]) -> Vector:
    module, torch = load("torchrl.envs"), load("torch")
    creators = [partial(_torchrl_env, make) for make in makes]
    envs = module.ParallelEnv(len(makes), creators, mp_start_method="fork")
    state: Any = None

    def reset() -> Any:
        nonlocal state
        envs.set_seed(SEED, static_seed=False)
        state = envs.reset()
        return state["observation"].numpy()

    def step(actions: Array) -> Any:
        nonlocal state
        state["action"] = torch.nn.functional.one_hot(torch.from_numpy(actions), 2)
        whole, state = envs.step_and_maybe_reset(state)
        return whole["next", "observation"].numpy(), None

    return Vector(reset, step, envs.close, "own")


def _torchrl_env(make: Make) -> Any:
    return load("torchrl.envs").GymWrapper(make())


def envpool_cartpole(makes: Sequence[Make]) -> Vector:
    envs = load("envpool").make_gymnasium("CartPole-v1", num_envs=len(makes), seed=SEED)
    return Vector(
        lambda: envs.reset()[0], lambda a: envs.step(a.astype(np.int32)), envs.close, "own"
    )


Build = Callable[[Sequence[Make]], Vector]

IN_PROCESS: dict[str, Build] = {
    "gym-sync": gym_sync,
    "sb3-dummy": partial(stable_baselines, processes=False),
    "tianshou-dummy": partial(tianshou, kind="DummyVectorEnv"),
    "puffer-serial": puffer_serial,
}


def limited(build: Build, most: int) -> Build:
    """The same, for at most so many environments."""

    def checked(makes: Sequence[Make]) -> Vector:
        if len(makes) > most:
            raise PeerError(f"starts a process for each environment, left out beyond {most}")
        return build(makes)

    return checked


PROCESSES: dict[str, Build] = {
    "gym-async": limited(gym_async, MOST_PROCESSES),
    "sb3-subproc": limited(partial(stable_baselines, processes=True), MOST_PROCESSES),
    "tianshou-shmem": limited(partial(tianshou, kind="ShmemVectorEnv"), MOST_PROCESSES),
    "torchrl-parallel": limited(torchrl, MOST_OF_TORCHRL),
}
# Environments of its own, written in C++.
OWN_CARTPOLE: dict[str, Build] = {"envpool (C++)": envpool_cartpole}
PEERS = IN_PROCESS | PROCESSES

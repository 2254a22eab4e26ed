"""One step of many environments that are written in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import gymnasium
import numpy as np

from benchmarks import vector_envs
from benchmarks.busy_env import Busy, loops_for
from benchmarks.harness import Calls, Demand, Kind, Plan, Row
from benchmarks.vector_envs import OWN_CARTPOLE, PEERS, PROCESSES, SEED, Array, Build, Make, Vector

# Sets of actions, taken in turn.
SETS = 64
PROVEN_STEPS = 5
SERIAL = ("gym-sync", "puffer-serial")


@dataclass(frozen=True)
class World:
    """A kind of environment. Synthetic ones take ``microseconds``."""

    name: str
    microseconds: float | None = None
    image: bool = False

    def make(self) -> Make:
        if self.microseconds is None:
            return partial(gymnasium.make, "CartPole-v1")
        shape, dtype = ((84, 84, 4), "uint8") if self.image else ((4,), "float32")
        return partial(Busy, loops_for(self.microseconds), shape, dtype)

    def demands(self, n: int) -> tuple[Demand, ...]:
        """What is demanded of ours with ``n`` of them."""
        if self.image or n > 64:
            return ()
        if self.microseconds is None:
            ratio = 1.5 if n >= 8 else 1
            return tuple(Demand(ratio, name) for name in SERIAL)
        if n < 8:
            return (Demand(1),)
        over_processes = tuple(Demand(4, name) for name in PROCESSES if name != "torchrl-parallel")
        return (Demand(1.7), *(over_processes if self.microseconds <= 10 else ()))


CARTPOLE = World("CartPole")
SHORT, MIDDLE, LONG = (World(f"{us} us", us) for us in (10, 100, 1000))
IMAGES = World("100 us, 84x84x4", 100, image=True)
CASES = [
    *((CARTPOLE, n) for n in (2, 8, 32, 64, 256)),
    *((SHORT, n) for n in (2, 8, 32, 64, 256)),
    *((MIDDLE, n) for n in (2, 8, 64)),
    *((LONG, n) for n in (2, 8, 32)),
    *((IMAGES, n) for n in (2, 8, 32)),
]
QUICK = [(CARTPOLE, 2), (CARTPOLE, 8), (SHORT, 8), (MIDDLE, 8)]


def rows(plan: Plan) -> Iterator[Row]:
    for world, n in QUICK if plan.quick else CASES:
        with ExitStack() as open_envs:
            yield _row(world, n, plan, open_envs)


def _row(world: World, n: int, plan: Plan, open_envs: ExitStack) -> Row:
    row = Row(world.name, f"step {n} envs", plan, items=n)
    makes = [world.make()] * n
    start = partial(_calls, makes, open_envs)
    ours = partial(vector_envs.ours, num_workers=None)
    row.add("ours", partial(start, ours), Kind.OURS, demands=world.demands(n))
    for workers in (1, 2):
        build = partial(vector_envs.ours, num_workers=workers)
        row.add(f"ours {workers} worker(s)", partial(start, build), Kind.OURS)
    views = partial(vector_envs.ours, num_workers=None, copy=False)
    row.add("ours copy=False", partial(start, views), Kind.OURS)
    for name, peer in (PEERS | (OWN_CARTPOLE if world is CARTPOLE else {})).items():
        row.add(name, partial(start, peer))
    return row


def _calls(makes: list[Make], open_envs: ExitStack, build: Build) -> Calls:
    envs = build(makes)
    open_envs.callback(envs.close)
    actions = list(np.random.default_rng(SEED).integers(0, 2, (SETS, len(makes))))
    first = envs.reset()
    _prove(makes, envs, first, actions)
    return Calls(envs.step, ((each,) for each in cycle(actions)))


def _prove(makes: list[Make], envs: Vector, first: Any, actions: list[Array]) -> None:
    """The same observations as of each environment by itself, as far as seeds allow."""
    n = len(makes)
    if envs.seeds == "own":
        assert len(first) == n
        return
    alone = [make() for make in makes]
    seeds = [SEED] * n if envs.seeds == "same" else range(SEED, SEED + n)
    expected = [env.reset(seed=seed)[0].copy() for env, seed in zip(alone, seeds, strict=True)]
    np.testing.assert_allclose(np.asarray(first).reshape(n, -1), _flat(expected))
    for each in actions[:PROVEN_STEPS]:
        observation = np.asarray(envs.step(each)[0]).reshape(n, -1)
        expected = [env.step(a)[0].copy() for env, a in zip(alone, each, strict=True)]
        np.testing.assert_allclose(observation, _flat(expected), rtol=1e-5)


def _flat(observations: list[Array]) -> Array:
    return np.stack(observations).reshape(len(observations), -1)

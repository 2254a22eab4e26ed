"""Whole updates of whole algorithms: batches drawn, losses, gradients, optimizers, targets."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks import learners, library_learners, machin_learners, plain_learners
from benchmarks.harness import Calls, Kind, Once, Plan, Row
from benchmarks.learners import ENVS, Task, Update
from benchmarks.peers import PeerError

ALGORITHMS = ("DQN", "DQNPer", "RAINBOW", "DDPG", "TD3", "SAC", "A2C", "PPO", "TRPO")
BATCH = 256
# Of PPO.
EPOCHS, QUICK_EPOCHS = 10, 4
# Steps of a rollout, and rows of a gradient step.
ROLLOUTS = {"A2C": (BATCH, BATCH), "PPO": (2048, BATCH), "TRPO": (2048, 2048)}

BUILDS: dict[str, tuple[Kind, Callable[[Task], Update]]] = {
    "ours": (Kind.OURS, learners.ours),
    "ours lazy": (Kind.OURS, partial(learners.ours, lazy=True)),
    "ours Buffer": (Kind.OURS, learners.our_buffer),
    "plain-torch": (Kind.PLAIN, plain_learners.plain),
    "plain-torch fused": (Kind.PLAIN, partial(plain_learners.plain, fused=True)),
    "stable-baselines3": (Kind.LIBRARY, library_learners.stable_baselines3),
    "tianshou": (Kind.LIBRARY, library_learners.tianshou),
    "machin": (Kind.LIBRARY, machin_learners.machin),
}


def rows(plan: Plan) -> Iterator[Row]:
    for name in ALGORITHMS if plan.algorithm is None else [plan.algorithm]:
        for hidden in (64,) if plan.quick else (256, 64):
            task = _task(name, hidden, plan)
            gc.collect()  # learners refer to themselves
            contestants = {
                who: (kind, Once(partial(_proven, build, task, who)))
                for who, (kind, build) in BUILDS.items()
            }
            # Where others share the cores, two threads wait for each other most of the time.
            for threads in (1,) if plan.quick or hidden == 64 else (1, 2):
                yield _row(task, contestants, threads, plan)


def _task(name: str, hidden: int, plan: Plan) -> Task:
    if name in ROLLOUTS:
        steps, batch = ROLLOUTS[name]
        epochs = QUICK_EPOCHS if plan.quick else EPOCHS
        return Task(name, hidden, steps, batch, epochs if name == "PPO" else 1)
    return Task(name, hidden, 20_000 if plan.quick else 100_000, BATCH)


def _row(
    task: Task, contestants: dict[str, tuple[Kind, Once[Update]]], threads: int, plan: Plan
) -> Row:
    case = f"{task.algorithm} 2x{task.hidden}, {threads} thread{'s' * (threads > 1)}"
    if not task.on_policy:
        op = f"update of {task.batch}"
    elif task.algorithm == "TRPO":
        op = f"store and update, {task.rows} steps"
    else:
        op = f"store and update, {task.steps} x {task.batch} of {task.rows // ENVS} x {ENVS} steps"
    items = 1 if task.algorithm == "TRPO" else task.steps
    row = Row(case, op, plan, items=items)
    for who, (kind, build) in contestants.items():
        row.add(who, partial(_calls, build), kind, threads=threads)
    return row


def _calls(build: Once[Update]) -> Calls:
    return Calls(build())


def _proven(build: Callable[[Task], Update], task: Task, who: str) -> Update:
    """Ours and plain torch are held against each other; a library must at least learn.

    Raises:
        AssertionError: Ours takes other steps than plain torch.
    """
    if who.startswith("ours"):
        plain_learners.prove_equal(task, **_options(who))
    try:
        return build(task)
    except (AttributeError, ImportError, KeyError, TypeError) as error:  # another version of it
        if who.startswith(("ours", "plain")):
            raise
        raise PeerError(f"{type(error).__name__}: {error}"[:120]) from error


def _options(who: str) -> dict[str, Any]:
    return {"lazy": True} if "lazy" in who else {}

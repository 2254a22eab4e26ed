"""``machin-fast bench``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from rich.console import Console
from rich.table import Table

from machin_fast.auto.cli import Bench
from machin_fast.auto.experiment import Experiment
from machin_fast.collect import Collector
from machin_fast.data import Replay
from machin_fast.env.native import NativeEnv
from machin_fast.ops import gae

_SECONDS = 0.3
_BATCH = 256

Work = tuple[Callable[[], Any], int]
"""Something to do again and again, and how many items it is."""


def run(options: Bench) -> int:
    """Measures some of the library's work on this machine, with one thread.

    Args:
        options: Of the command line.

    Returns:
        0.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {name: rate(*make()) for name, make in WORK.items()}
    finally:
        torch.set_num_threads(threads)
    if options.json:
        print(json.dumps({"one_thread": True, "per_second": found}))
        return 0
    table = Table(title="On one thread", title_justify="left")
    table.add_column("what")
    table.add_column("per second", justify="right")
    for name, per_second in found.items():
        table.add_row(name, f"{per_second:,.0f}")
    Console().print(table)
    return 0


def rate(work: Callable[[], Any], items: int) -> float:
    """Items a second, in the best of three attempts."""
    work()
    best = 0.0
    for _ in range(3):
        count, begin = 0, time.perf_counter()
        while (took := time.perf_counter() - begin) < _SECONDS / 3:
            work()
            count += items
        best = max(best, count / took)
    return best


def _replay() -> Replay:
    replay = Replay(100_000, priority="step", seed=0)
    n = 50_000
    replay.append(
        state=torch.randn(n, 8),
        next_state=torch.randn(n, 8),
        action=torch.zeros(n, 1, dtype=torch.int64),
        reward=torch.randn(n),
        terminated=torch.zeros(n, dtype=torch.bool),
    )
    return replay


def _prioritized() -> Work:
    replay, priority = _replay(), torch.rand(_BATCH)

    def work() -> None:
        replay.sample(_BATCH).update_priority(priority)

    return work, _BATCH


def _advantages() -> Work:
    reward, value, next_value = torch.randn(3, 128, 64)
    flags = torch.zeros(2, 128, 64, dtype=torch.bool)
    return lambda: gae(reward, value, next_value, *flags, gamma=0.99, lam=0.95), 128 * 64


def _native() -> Work:
    envs = NativeEnv("CartPole-v1", 64, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    action = torch.randint(2, (64,)).numpy()
    return lambda: envs.step(action), 64


def _collecting() -> Work:
    experiment = Experiment.of("ppo", "CartPole-v1").but(vector="native", envs=64)
    trainer = experiment.trainer(evaluate=False)
    collector = Collector(trainer.envs, trainer.behaviour.explore, seed=0)
    return lambda: collector.steps(16), 64 * 16


def _updates(algo: str) -> Callable[[], Work]:
    def make() -> Work:
        experiment = Experiment.of(algo, "CartPole-v1").but(vector="native")
        trainer = experiment.trainer(evaluate=False)
        collector = Collector(trainer.envs, trainer.behaviour.explore, seed=0)
        trainer.algorithm.store(collector.steps(256))
        return trainer.algorithm.update, 1

    return make


WORK: dict[str, Callable[[], Work]] = {
    f"prioritized replay: rows drawn and given priorities, batches of {_BATCH}": _prioritized,
    "GAE, 128 steps of 64 environments: steps": _advantages,
    "CartPole-v1 in C++, 64 environments: steps": _native,
    "collecting from these with a policy: steps": _collecting,
    "DQN, batches of 64: updates": _updates("dqn"),
    "DQN with priorities, batches of 64: updates": _updates("dqn_per"),
}

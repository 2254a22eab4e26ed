"""What a profile costs: turns of training with and without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.harness import Calls, Demand, Kind, Plan, Row
from machin_fast.auto.experiment import Experiment
from machin_fast.training import Trainer, profile

WITHOUT = "not profiled"
# A profile may take a twentieth of the time.
DEMAND = Demand(0.95, WITHOUT)
# The least work that beginning and ending a profile, milliseconds each, vanish in.
TURNS = {"dqn_per": 30, "ppo": 20}


def rows(plan: Plan) -> Iterator[Row]:
    for algo, turns in TURNS.items():
        experiment = Experiment.of(algo, "CartPole-v1").but(
            vector="native", device=plan.device, threads=plan.threads, training={"warm_up": 0}
        )
        trainer = experiment.trainer(evaluate=False)
        row = Row(f"{algo} in CartPole-v1, {turns} turns", "profile", plan, items=turns)
        work = partial(_turns, trainer, turns)
        row.add(WITHOUT, partial(Calls, work), Kind.PLAIN)
        row.add("profiled", partial(Calls, partial(_profiled, work)), Kind.OURS, demands=(DEMAND,))
        yield row


def _turns(trainer: Trainer, count: int) -> None:
    for _ in range(count):
        trainer.turn()


def _profiled(work: Callable[[], None]) -> None:
    with profile():
        work()

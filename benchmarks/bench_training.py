"""Whole training of CartPole, PPO and DQN: steps a second, and what it takes to reach the goal.

Each run has a process of its own; all libraries take turns, in alternating order.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import Calls, Candidate, Demand, Goal, Kind, Plan, Row, Timing
from benchmarks.report import Report
from benchmarks.training_runs import GOALS, Job, Outcome

SEEDS = (0, 1, 2)
# Steps that are timed, those before, and the most to the goal.
STEPS, WARM_UP, MOST = 10_240, 2048, 120_000
QUICK_STEPS, QUICK_WARM_UP = 1024, 1280
# A run to the goal takes a minute at most; more is a library that hangs, or a machine that does.
TIMEOUT = 900
DESCRIPTIONS = {
    "PPO": "8 envs x 32 steps, 20 epochs of 256, 2x64",
    "DQN": "1 env, 128 updates of 64 per 256 steps, 2x256",
}
KINDS = {
    "ours": Kind.OURS,
    "ours lazy": Kind.OURS,
    "plain-torch": Kind.PLAIN,
    "plain-torch fused": Kind.PLAIN,
    "stable-baselines3": Kind.LIBRARY,
    "tianshou": Kind.LIBRARY,
    "machin": Kind.LIBRARY,
}
DEMANDS = {
    "PPO": (Demand(1.5), Demand(5, "machin")),
    "DQN": (Demand(1.5), Demand(3, "machin")),
}
# Of others; not in a quick run, where processes take longer to start than to train.
VARIANTS = ("ours lazy", "plain-torch fused")
# Machin's PPO does not get there within so many steps, nor its DQN in minutes.
NEVER = {("PPO", "machin"), ("DQN", "machin")}


def report(plan: Plan, table: Report) -> None:
    algorithms = [x for x in DEMANDS if plan.algorithm in (None, x)]
    for algorithm in algorithms:
        row = Row(f"CartPole {algorithm}", DESCRIPTIONS[algorithm], plan, items=_steps(plan))
        table.add(row, _speeds(row, algorithm))
    if not plan.quick:
        for algorithm in algorithms:
            table.add_goals(list(_goals(plan, algorithm)))


def _steps(plan: Plan) -> int:
    return QUICK_STEPS if plan.quick else STEPS


def _speeds(row: Row, algorithm: str) -> list[Timing]:
    """Of the steps after the first ones, by all that can be run, median over the seeds."""
    plan = row.plan
    seconds: dict[str, list[float]] = {}
    for turn, seed in enumerate(SEEDS[: 1 if plan.quick else None]):
        order = [who for who in KINDS if not plan.quick or who not in VARIANTS]
        for who in order if turn % 2 == 0 else reversed(order):
            if who in row.missing:
                continue
            warm_up = QUICK_WARM_UP if plan.quick else WARM_UP
            job = Job(who, algorithm, seed, warm_up, _steps(plan))
            outcome = _run(job, plan)
            if isinstance(outcome, str):
                row.missing[who] = outcome
            else:
                seconds.setdefault(who, []).append(outcome.seconds / outcome.steps * row.items)
    return [_timing(who, algorithm, plan, each) for who, each in seconds.items()]


def _timing(who: str, algorithm: str, plan: Plan, seconds: list[float]) -> Timing:
    demands = DEMANDS[algorithm] if who == "ours" else ()
    candidate = Candidate(who, KINDS[who], Calls(lambda: None), plan.threads, demands)
    median = statistics.median(seconds)
    return Timing(candidate, median * 1e9, (max(seconds) - min(seconds)) / median, len(seconds))


def _goals(plan: Plan, algorithm: str) -> Iterator[Goal]:
    for seed in SEEDS:
        for who in KINDS:
            if (algorithm, who) in NEVER or who == "ours lazy":  # as ours, but for the waiting
                continue
            outcome = _run(Job(who, algorithm, seed, 0, MOST, to_goal=True), plan)
            if not isinstance(outcome, str):
                yield Goal(
                    f"CartPole {algorithm}", who, seed, GOALS[algorithm], outcome.reached,
                    outcome.seconds, outcome.steps, outcome.score,
                )  # fmt: skip


def _run(job: Job, plan: Plan) -> Outcome | str:
    """What came of it, or why nothing did."""
    asked = json.dumps({**asdict(job), "threads": plan.threads})
    command = [sys.executable, "-m", "benchmarks.training_runs", asked]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parents[1], capture_output=True, text=True,
            timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it took longer than {TIMEOUT} s"
    if found.returncode:
        last = (found.stderr.strip().splitlines() or ["no error text"])[-1]
        if KINDS[job.who] is not Kind.LIBRARY:
            raise RuntimeError(f"{job.who} failed: {last}")
        return last[:120]
    answer = json.loads(found.stdout.splitlines()[-1])
    return answer["missing"] if "missing" in answer else Outcome(**answer)

"""Trains every algorithm on several seeds and writes docs/learning.md, with its picture.

python tools/learn.py [--seeds 3] [--only NAME ...] [--processes 2]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "python_tests"))

from learning.runs import RUNS, Outcome, train  # noqa: E402 (its path comes first)

PAGE = ROOT / "docs" / "learning.md"
FIGURES = ROOT / "docs" / "learning.json"
PICTURE = ROOT / "docs" / "learning.png"


HEAD = """# Learning runs

Each algorithm and mode on Gymnasium's environments, until 20 greedy episodes on seeds of their own
average the goal: 475 on CartPole-v1, -200 on Pendulum-v1, -110 on MountainCar-v0, where random
actions are held for a while. Without velocities one observation does not tell what to do: PPO
without a memory got no further than 45 of 475 in 100,000 steps, on each of three seeds. Made by
`make learn`; hyper-parameters are in `python_tests/learning/runs.py`. `make test` repeats seed 0 of
each. Seconds are of one core of two, with other work on the machine.

![Scores by environment steps, a line a seed](learning.png)

| Run | Environment | Reached | Steps, each seed | Limit | Seconds, median |
|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS), metavar="NAME")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    # What was measured before stays, so that single runs can be repeated.
    figures: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    jobs = [(name, seed) for name in arguments.only for seed in range(arguments.seeds)]
    context = multiprocessing.get_context("spawn")
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ProcessPoolExecutor(
            arguments.processes, context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
        Progress(*columns) as progress,
    ):
        task = progress.add_task("training", total=len(jobs))
        running = {pool.submit(train, RUNS[name], seed): (name, seed) for name, seed in jobs}
        for done in as_completed(running):
            name, seed = running[done]
            outcome = done.result()
            figures.setdefault(name, {})[str(seed)] = vars(outcome)
            FIGURES.write_text(json.dumps(figures) + "\n")  # in case that a later run fails
            reached = outcome.scores[-1][1] >= RUNS[name].goal
            progress.console.print(
                f"{name}, seed {seed}: {outcome.scores[-1][1]:.0f} after {outcome.steps:,} steps, "
                f"{outcome.seconds:.0f} s{'' if reached else ' (goal not reached)'}"
            )
            progress.advance(task)
    figures = {name: dict(sorted(figures[name].items())) for name in RUNS if name in figures}
    FIGURES.write_text(json.dumps(figures) + "\n")
    PAGE.write_text(page(figures))
    draw(figures)
    print(f"written: {PAGE}, {PICTURE}, {FIGURES}")


def page(figures: dict[str, Any]) -> str:
    rows = [HEAD]
    for name, seeds in figures.items():
        run = RUNS[name]
        outcomes = [Outcome(**each) for each in seeds.values()]
        reached = sum(each.scores[-1][1] >= run.goal for each in outcomes)
        steps = ", ".join(f"{each.steps:,}" for each in outcomes)
        seconds = statistics.median(each.seconds for each in outcomes)
        rows.append(
            f"| {name} | {run.env} | {reached} of {len(outcomes)} | {steps} | "
            f"{run.most_steps:,} | {seconds:.0f} |"
        )
    return "\n".join(rows) + "\n"


def draw(figures: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 4
    lines = -(-len(figures) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(3.2 * columns, 2.3 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(figures) :]:
        axis.axis("off")
    for axis, (name, seeds) in zip(axes.flat, figures.items(), strict=False):
        run = RUNS[name]
        for seed, each in seeds.items():
            steps, scores = zip(*each["scores"], strict=True)
            axis.plot([x / 1000 for x in steps], scores, ".-", ms=3, lw=1, label=f"seed {seed}")
        axis.axhline(run.goal, color="0.6", lw=1, ls="--")
        axis.set_title(f"{name}\n{run.env}", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=6)
    figure.supxlabel("environment steps, thousands", fontsize=9)
    figure.supylabel("mean return of 20 greedy episodes (dashed: goal)", fontsize=9)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()

"""``machin-fast evaluate``."""

from __future__ import annotations

import json

from machin_fast.auto.cli import Evaluate
from machin_fast.auto.commands.restored import experiment_of, find, restore
from machin_fast.auto.commands.train import told_in_one_line
from machin_fast.auto.errors import CommandError
from machin_fast.training import evaluate, put_statistics

_MOST_ENVS = 32


def run(options: Evaluate) -> int:
    """Plays episodes with the best policy of a run, and tells how it did.

    Args:
        options: Of the command line.

    Returns:
        0.
    """
    if options.episodes < 1:
        raise CommandError(f"--episodes must be at least 1, got {options.episodes}")
    with told_in_one_line():
        found = find(options.folder, newest=options.newest)
        experiment = experiment_of(found)
        envs = experiment.make_envs(min(options.episodes, _MOST_ENVS))
        try:
            spaces = envs.single_observation_space, envs.single_action_space
            behaviour = restore(found, experiment, *spaces)
            put_statistics(envs, found.load("environments"), frozen=True)
            returns = evaluate(
                envs,
                behaviour.act,
                episodes=options.episodes,
                seed=options.seed,
                recurrent=bool(behaviour.recurrent),
            )
        finally:
            envs.close()
    figures = {
        "algo": experiment.algo,
        "env": experiment.env,
        "step": found.step,
        "episodes": len(returns),
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "min": float(returns.min()),
        "max": float(returns.max()),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print(
            f"{experiment.algo} in {experiment.env}, step {found.step:,}: {len(returns)} greedy "
            f"episodes average {returns.mean():.4g}, deviation {returns.std():.4g}, from "
            f"{returns.min():.4g} to {returns.max():.4g}."
        )
    return 0

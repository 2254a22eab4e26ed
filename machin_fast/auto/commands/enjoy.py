"""``machin-fast enjoy``."""

from __future__ import annotations

from machin_fast.auto.cli import Enjoy
from machin_fast.auto.commands.restored import experiment_of, find, restore
from machin_fast.auto.commands.train import told_in_one_line
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import make_env
from machin_fast.training import evaluate, put_statistics, record


def run(options: Enjoy) -> int:
    """Shows episodes of the best policy of a run, in a window or as films.

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
        mode = "human" if options.record is None else "rgb_array"
        env = make_env(experiment.env, experiment.env_options, render_mode=mode)
        try:
            behaviour = restore(found, experiment, env.observation_space, env.action_space)
            put_statistics(env, found.load("environments"), frozen=True)
            recurrent = bool(behaviour.recurrent)
            for episode in range(options.episodes):
                seed = options.seed + episode
                if options.record is None:
                    try:
                        (score,) = evaluate(env, behaviour.act, seed=seed, recurrent=recurrent)
                    except RuntimeError as error:  # of pygame, where there is no screen
                        raise CommandError(
                            f"no window can be shown: {error}. Film it by --record FOLDER"
                        ) from error
                    print(f"Episode {episode + 1}: return {score:.4g}")
                    continue
                path = record(
                    env,
                    behaviour.act,
                    options.record,
                    name=f"{experiment.algo}_{episode + 1}",
                    seed=seed,
                    recurrent=recurrent,
                )
                print(f"Episode {episode + 1}: {path}")
        finally:
            env.close()
    return 0

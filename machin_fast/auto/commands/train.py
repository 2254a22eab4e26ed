"""``machin-fast train``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from machin_fast.auto.cli import Train
from machin_fast.auto.commands.settings import experiment_of, folder_to_resume
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment, default_folder, make_env
from machin_fast.training import Outcome, ProgressBar, Trainer
from machin_fast.training.hooks import Hooks
from machin_fast.training.logs import Log

CONFIG = "config.json"


def run(options: Train) -> int:
    """Trains.

    Args:
        options: Of the command line.

    Returns:
        0 if the goal was reached, or there was none; 1 if the steps did not suffice; 130 if
        somebody stopped it.
    """
    with told_in_one_line():
        experiment = experiment_of(options)
        folder = folder_to_resume(options) if options.resume else options.folder
        return train(
            experiment,
            folder=folder,
            resume=options.resume,
            hooks=_films(experiment) if options.video else (),
            logs=_logs(options),
        )


def train(
    experiment: Experiment,
    *,
    folder: Path | None = None,
    resume: bool = False,
    hooks: tuple[Hooks, ...] = (),
    logs: tuple[Log, ...] = (),
) -> int:
    """Trains what an experiment says, and shows how it goes.

    Args:
        experiment: What to train.
        folder: Of the run. None: a new one in ``runs``.
        resume: Go on from the newest checkpoint in it.
        hooks, logs: Of the trainer, besides the progress bar.

    Returns:
        As ``run``.

    Raises:
        CommandError: There is a run in the folder already; or see ``Experiment.trainer``.
    """
    if folder is None:
        folder = default_folder(experiment)
    elif not resume and (folder / "checkpoints").exists():
        raise CommandError(
            f"--folder must have no run in it, got {folder}, which has. Go on with it by --resume, "
            "or take another folder"
        )
    console = Console()
    trainer = experiment.trainer(folder=folder, hooks=(ProgressBar(), *hooks), logs=logs)
    try:
        if resume:
            found = trainer.resume()
            console.print(f"Going on from step {found.step:,}.", highlight=False)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(experiment.to_json(), indent=2) + "\n")
        goal = experiment.training.goal
        console.print(
            f"{experiment.algo} in {experiment.env}: {experiment.training.steps:,} steps"
            + (f", or until evaluations average {goal:g}" if goal is not None else "")
            + f". Folder: {folder}",
            highlight=False,
            soft_wrap=True,
        )
        outcome = trainer.train()
    finally:
        close(trainer)
    console.print(conclusion(outcome, goal), highlight=False, soft_wrap=True)
    console.print(
        f"Watch it: machin-fast enjoy {folder}. Go on: machin-fast train --resume --folder "
        f"{folder} --steps {2 * max(outcome.progress.steps, 1)}",
        highlight=False,
        soft_wrap=True,
    )
    if outcome.reason == "interrupted":
        return 130
    return 1 if goal is not None and outcome.reason != "goal" else 0


def close(trainer: Trainer) -> None:
    """Closes the environments of a trainer."""
    trainer.envs.close()
    if trainer.evaluation_envs is not None:
        trainer.evaluation_envs.close()


def conclusion(outcome: Outcome, goal: float | None) -> str:
    """How a run ended, in a sentence."""
    progress = outcome.progress
    took = f"after {progress.steps:,} steps and {progress.seconds:.1f} s"
    score = "" if progress.score is None else f"; evaluations average {progress.score:.4g}"
    if progress.best is not None and progress.best[1] != progress.score:
        score += f" (best: {progress.best[1]:.4g} at step {progress.best[0]:,})"
    if outcome.reason == "goal":
        return f"Reached the goal of {goal:g} {took}{score}."
    if outcome.reason == "interrupted":
        return f"Stopped {took}{score}."
    if outcome.reason == "stopped":
        return f"Ended {took}, as {outcome.message}{score}."
    if goal is not None:
        return f"The goal of {goal:g} was not reached {took}{score}."
    return f"Done {took}{score}."


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """What goes wrong with files and checkpoints is told without a traceback."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")
            yield
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        reason = error.strerror or error
        raise CommandError(
            f"the disk says of{where or ' a file'}: {reason}. Checkpoints written before are whole"
        ) from error
    except ValueError as error:
        if isinstance(error, CommandError):
            raise
        raise CommandError(str(error)) from error


def _films(experiment: Experiment) -> tuple[Hooks, ...]:
    from machin_fast.training import Video

    env = make_env(experiment.env, experiment.env_options, render_mode="rgb_array")
    return (Video(env),)


def _logs(options: Train) -> tuple[Log, ...]:
    logs: list[Log] = []
    if options.tensorboard:
        from machin_fast.training import TensorBoard

        logs.append(TensorBoard())
    if options.wandb is not None:
        from machin_fast.training import WeightsAndBiases

        logs.append(WeightsAndBiases(project=options.wandb))
    return tuple(logs)

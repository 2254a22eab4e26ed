"""Trained policies, from the folder of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium.spaces import Space

from machin_fast.auto.commands.settings import about
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment, check_device
from machin_fast.training import Behaviour, Checkpoint, Checkpoints
from machin_fast.training.checkpoint import MANIFEST, read


def find(folder: Path, *, newest: bool = False) -> Checkpoint:
    """The checkpoint to act with.

    Args:
        folder: Of a run, or of a checkpoint.
        newest: Of a run the newest, not the best.

    Returns:
        The checkpoint.

    Raises:
        CommandError: There is none.
        ValueError: It is damaged.
    """
    if (folder / MANIFEST).is_file():
        return read(folder)
    places = ("checkpoints",) if newest else ("best", "checkpoints")
    for place in places:
        if Checkpoints(folder / place).all():
            return Checkpoints(folder / place).latest()
    raise CommandError(f"there must be a run or a checkpoint in {folder}, and there is none")


def experiment_of(checkpoint: Checkpoint) -> Experiment:
    """What a checkpoint is of.

    Args:
        checkpoint: Of a run of this program.

    Returns:
        The experiment.

    Raises:
        CommandError: It does not say, or what it says is not to be had.
    """
    return Experiment.from_json(about(checkpoint.about, checkpoint.path))


def restore(
    checkpoint: Checkpoint, experiment: Experiment, observations: Space[Any], actions: Space[Any]
) -> Behaviour:
    """The policy of a checkpoint.

    Args:
        checkpoint: Where it is.
        experiment: What it is of.
        observations, actions: Spaces of one environment.

    Returns:
        How it acts.

    Raises:
        CommandError: It is of other networks, or its device is not there.
    """
    check_device(experiment.device)
    # Nothing is stored any more.
    replay = None if experiment.replay is None else {**experiment.replay, "capacity": 1024}
    algorithm = replace(experiment, replay=replay).make_algorithm(observations, actions)
    state = checkpoint.load("algorithm")
    try:
        algorithm.load_state_dict({**state, "memory": None})
    except (RuntimeError, ValueError, KeyError) as error:
        raise CommandError(f"{checkpoint.path} is not of {experiment.algo}: {error}") from error
    return experiment.player(actions, algorithm)

"""From the options of ``train`` to an experiment."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machin_fast.auto.cli import Train
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment, options_of
from machin_fast.auto.names import algorithm
from machin_fast.auto.presets import PRESETS
from machin_fast.training import Checkpoints

_RUN = ("envs", "vector", "workers", "device", "threads")
_TRAINING = (
    "steps", "seed", "rollout", "updates", "evaluation_every", "evaluation_episodes",
    "checkpoint_every",
)  # fmt: skip


def experiment_of(options: Train) -> Experiment:
    """What shall be trained.

    Args:
        options: Of the command line.

    Returns:
        The experiment: that of the run that is resumed, or the presets, with what is said.

    Raises:
        CommandError: Something is unknown, missing or does not fit.
    """
    if options.resume:
        base = _resumed(options)
    else:
        for name in ("algo", "env"):
            if getattr(options, name) is None:
                raise CommandError(f"--{name} must be given")
        env_options = assignments("env-option", options.env_option)
        base = Experiment.of(options.algo or "", options.env or "", env_options=env_options)
    return _with_goal(base.but(**_changes(options, base)), options)


def _changes(options: Train, base: Experiment) -> dict[str, Any]:
    """Fields of the experiment that are said."""
    changes: dict[str, Any] = {name: _said(options, name) for name in _RUN}
    changes = {name: value for name, value in changes.items() if value is not None}
    changes["training"] = {
        name: value for name in _TRAINING if (value := _said(options, name)) is not None
    }
    if options.hidden is not None:
        changes["networks"] = {"hidden": list(options.hidden)}
    known = options_of(PRESETS[base.algo].frame)
    chosen: dict[str, Any] = {}
    if options.learning_rate is not None:
        rates = [name for name in known if name.endswith("learning_rate")]
        chosen.update(dict.fromkeys(rates, options.learning_rate))
    if options.batch_size is not None:
        chosen["batch_size"] = options.batch_size
    chosen.update(assignments("option", options.option))
    changes["options"] = chosen
    return changes


def _with_goal(experiment: Experiment, options: Train) -> Experiment:
    if options.resume and options.goal == "solved":
        return experiment  # what the run set out for
    goal: float | None = None
    if options.goal == "solved":
        goal = experiment.goal if experiment.training.evaluation_every else None
    elif options.goal != "none":
        goal = options.goal
    try:
        training = dataclasses.replace(experiment.training, goal=goal)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return dataclasses.replace(experiment, training=training)


def _resumed(options: Train) -> Experiment:
    """The experiment of the run that shall go on."""
    found = Checkpoints(folder_to_resume(options) / "checkpoints").latest()
    base = Experiment.from_json(about(found.about, found.path))
    for name, there in (("algo", base.algo), ("env", base.env)):
        said = getattr(options, name)
        if said is not None and (algorithm(said) if name == "algo" else said) != there:
            raise CommandError(f"--{name} must be that of the run to resume, {there}, got {said}")
    return base


def folder_to_resume(options: Train) -> Path:
    """The folder that is said, or that of the newest run alike.

    Args:
        options: Of the command line.

    Returns:
        The folder of a run.

    Raises:
        CommandError: There is none.
    """
    if options.folder is not None:
        folders = [options.folder]
    else:
        name = algorithm(options.algo) if options.algo else "*"
        env = (options.env or "").replace("/", "_").replace(":", "_")
        folders = sorted(Path("runs").glob(f"{name}_{env}*"), key=lambda each: each.stat().st_mtime)
    there = [each for each in folders if (each / "checkpoints").is_dir()]
    if not there:
        where = options.folder or Path("runs")
        raise CommandError(
            f"--resume needs a run that has a checkpoint, and there is none in {where}. Name its "
            "--folder, or train without --resume"
        )
    return there[-1]


def about(data: Any, path: Path) -> dict[str, Any]:
    """What a checkpoint says that it is of.

    Args:
        data: Its ``about``.
        path: Of the checkpoint, for errors.

    Returns:
        The same.

    Raises:
        CommandError: It was not written by this command line.
    """
    if not isinstance(data, dict) or "algo" not in data:
        raise CommandError(
            f"{path} does not say of which experiment it is: it was not written by this program. "
            "Load it from Python, by Trainer.resume"
        )
    return data


def assignments(option: str, words: Sequence[str]) -> dict[str, Any]:
    """Values by name.

    Args:
        option: That they were given to, for errors.
        words: Each ``name=value``; a value that is neither JSON nor a Python literal is text.

    Returns:
        The values.

    Raises:
        CommandError: A word has no ``=``.
    """
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise CommandError(f"--{option} must be NAME=VALUE, got {word!r}")
        found[name.replace("-", "_")] = _value(text)
    return found


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError):
            continue
        return list(value) if isinstance(value, tuple) else value
    return text


def _said(options: Train, name: str) -> Any:
    return getattr(options, name)

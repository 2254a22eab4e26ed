"""Videos of what a policy does."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from machin_fast.collect.acting import Actor
from machin_fast.training.evaluation import evaluate
from machin_fast.training.hooks import Hooks
from machin_fast.training.statistics import put_statistics, take_statistics
from machin_fast.utils.extras import need

if TYPE_CHECKING:
    from machin_fast.training.trainer import Trainer


def record(
    env: gymnasium.Env[Any, Any],
    actor: Actor,
    folder: str | Path,
    *,
    name: str = "episode",
    seed: int | None = None,
    recurrent: bool | None = None,
) -> Path:
    """Films one episode by Gymnasium's ``RecordVideo``.

    Args:
        env: Made with ``render_mode="rgb_array"``; left open.
        actor, recurrent: As for ``evaluate``.
        folder: Of the video; made if it is not there.
        name: Of the file, without its ending.
        seed: Of the episode.

    Returns:
        The file, ``<name>.mp4``.

    Raises:
        MissingExtraError: moviepy is not installed.
        ValueError: ``env`` renders no pictures.
    """
    need("moviepy", extra="video", for_what="A video")
    if env.render_mode != "rgb_array":
        raise ValueError(
            'record: env must be made with render_mode="rgb_array", '
            f"got render_mode={env.render_mode!r}"
        )
    with warnings.catch_warnings():
        # That there are videos in the folder already.
        warnings.filterwarnings("ignore", message=".*Overwriting existing videos.*")
        filmed: Any = gymnasium.wrappers.RecordVideo(
            env, str(folder), episode_trigger=lambda episode: episode == 0, name_prefix=name
        )
    evaluate(filmed, actor, seed=seed, recurrent=recurrent)
    if filmed.recording:
        filmed.stop_recording()
    made = Path(folder) / f"{name}-episode-0.mp4"
    return made.replace(made.with_name(f"{name}.mp4"))


class Video(Hooks):
    """Films an episode at evaluations, into ``videos`` in the folder of the run.

    Args:
        env: An environment for this alone, made with ``render_mode="rgb_array"``.
        every: Evaluations from one video to the next; the first is filmed.

    Raises:
        MissingExtraError: moviepy is not installed.
        ValueError: ``every`` is below 1.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], every: int = 1) -> None:
        need("moviepy", extra="video", for_what="A video")
        if every < 1:
            raise ValueError(f"Video: every must be at least 1, got {every}")
        self._env = env
        self._every = every

    def on_evaluation(self, trainer: Trainer, returns: NDArray[np.float64]) -> None:
        progress = trainer.progress
        if trainer.folder is None or (len(progress.evaluations) - 1) % self._every:
            return
        put_statistics(self._env, take_statistics(trainer.envs), frozen=True)
        record(
            self._env,
            trainer.behaviour.act,
            trainer.folder / "videos",
            name=f"step_{progress.steps}",
            seed=trainer.settings.seed + math.floor(2e6),
            recurrent=bool(trainer.behaviour.recurrent),
        )

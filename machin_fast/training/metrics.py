"""What is told of a run, summed up into lines."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from machin_fast.training.hooks import Hooks
from machin_fast.training.logs import Log

if TYPE_CHECKING:
    from machin_fast.data import Trajectory
    from machin_fast.training.progress import Outcome
    from machin_fast.training.trainer import Trainer


class Metrics(Hooks):
    """Writes a line to logs every so many steps, and of each evaluation and checkpoint.

    Args:
        logs: Where to.
    """

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = list(logs)
        self._clear(0)

    def on_start(self, trainer: Trainer) -> None:
        step = trainer.progress.steps
        for log in self._logs:
            log.open(trainer, step)
        self._clear(step)
        if step:
            self._write(trainer, "resume")

    def on_rollout(self, trainer: Trainer, trajectory: Trajectory) -> None:
        self._returns += trainer.collector.episode_returns
        self._lengths += trainer.collector.episode_lengths

    def on_update(self, trainer: Trainer, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._figures[name].append(value)
        every = trainer.settings.log_every
        if trainer.progress.steps // every > self._step // every:
            self._train(trainer)

    def on_evaluation(self, trainer: Trainer, returns: NDArray[np.float64]) -> None:
        self._write(
            trainer,
            "evaluation",
            score=float(returns.mean()),
            deviation=float(returns.std()),
            least=float(returns.min()),
            most=float(returns.max()),
            episodes=len(returns),
        )

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        # What has not been told would be lost to a run that is resumed here.
        if trainer.progress.steps > self._step:
            self._train(trainer)
        self._write(trainer, "checkpoint", path=str(path.relative_to(trainer.folder or path)))

    def on_end(self, trainer: Trainer, outcome: Outcome) -> None:
        if trainer.progress.steps > self._step:
            self._train(trainer)
        self._write(trainer, "end", reason=outcome.reason, message=outcome.message)
        for log in self._logs:
            log.close()

    def _train(self, trainer: Trainer) -> None:
        """Sums up what happened since the last time."""
        now, progress = time.perf_counter(), trainer.progress
        line: dict[str, Any] = {
            "updates": progress.updates,
            "episodes": progress.episodes,
            "steps_per_second": (progress.steps - self._step) / (now - self._time),
        }
        if self._returns:
            line.update(
                return_mean=float(np.mean(self._returns)),
                length_mean=float(np.mean(self._lengths)),
                returns=self._returns,
            )
        if hasattr(trainer.algorithm, "epsilon"):
            line["epsilon"] = float(trainer.algorithm.epsilon)
        line.update((name, float(np.mean(each))) for name, each in self._figures.items())
        self._write(trainer, "train", **line)
        self._clear(progress.steps)

    def _write(self, trainer: Trainer, event: str, **figures: Any) -> None:
        progress = trainer.progress
        line = {"event": event, "step": progress.steps, "seconds": progress.seconds, **figures}
        for log in self._logs:
            log.write(line)

    def _clear(self, step: int) -> None:
        self._step = step
        self._time = time.perf_counter()
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._figures: defaultdict[str, list[float]] = defaultdict(list)

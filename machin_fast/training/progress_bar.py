"""A progress bar in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from machin_fast.training.hooks import Hooks

if TYPE_CHECKING:
    from machin_fast.data import Trajectory
    from machin_fast.training.progress import Outcome
    from machin_fast.training.trainer import Trainer


class ProgressBar(Hooks):
    """Steps, speed, returns and the last score in one line; nothing where there is no terminal.

    Args:
        console: Where to. None: the terminal, by way of the error stream.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._returns: list[float] = []

    def on_start(self, trainer: Trainer) -> None:
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} steps"),
            TextColumn("{task.fields[figures]}", style="cyan"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(
            "", total=trainer.settings.steps, completed=trainer.progress.steps, figures=""
        )
        self._begin = trainer.progress.steps, trainer.progress.seconds
        self._bar.start()

    def on_rollout(self, trainer: Trainer, trajectory: Trajectory) -> None:
        self._returns = (self._returns + trainer.collector.episode_returns)[-100:]

    def on_update(self, trainer: Trainer, figures: dict[str, float]) -> None:
        self._show(trainer)

    def on_evaluation(self, trainer: Trainer, returns: NDArray[np.float64]) -> None:
        self._show(trainer)

    def on_end(self, trainer: Trainer, outcome: Outcome) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, trainer: Trainer) -> None:
        if self._bar is None:
            return
        progress = trainer.progress
        steps, seconds = self._begin
        parts = [
            f"{(progress.steps - steps) / max(progress.seconds - seconds, 1e-9):,.0f} a second"
        ]
        if self._returns:
            parts.append(f"return {np.mean(self._returns):.4g}")
        if progress.score is not None:
            parts.append(f"score {progress.score:.4g}")
        self._bar.update(self._task, completed=progress.steps, figures=", ".join(parts))

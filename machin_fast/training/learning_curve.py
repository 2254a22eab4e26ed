"""The learning curve of a run, drawn from its figures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machin_fast.training.curve import draw_learning_curve
from machin_fast.training.hooks import Hooks
from machin_fast.training.logs import read_lines

if TYPE_CHECKING:
    from machin_fast.training.progress import Outcome
    from machin_fast.training.trainer import Trainer


class LearningCurve(Hooks):
    """Draws ``learning_curve.png`` into the folder of the run at its end, if matplotlib is there;
    not after Ctrl-C. It has what was before the run was resumed, too.
    """

    def on_end(self, trainer: Trainer, outcome: Outcome) -> None:
        hurried = outcome.reason == "interrupted"
        if hurried or trainer.folder is None or importlib.util.find_spec("matplotlib") is None:
            return
        spec: Any = getattr(trainer.envs, "spec", None)
        where = f" on {spec.id}" if spec is not None else ""
        draw_run(
            trainer.folder,
            title=f"{type(trainer.algorithm).__name__}{where}",
            goal=trainer.settings.goal,
        )


def draw_run(folder: Path, *, title: str, goal: float | None = None) -> Path:
    """Draws what ``metrics.jsonl`` tells.

    Args:
        folder: Of the run.
        title: Stands above the picture.
        goal: Mean return to reach. None: there is none.

    Returns:
        The picture, ``learning_curve.png``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    episodes, evaluations = [], []
    for line in read_lines(folder / "metrics.jsonl"):
        episodes += [(line["step"], each) for each in line.get("returns", ())]
        if line["event"] == "evaluation" and line["score"] is not None:
            evaluations.append((line["step"], line["score"]))
    path = folder / "learning_curve.png"
    draw_learning_curve(path, title=title, episodes=episodes, evaluations=evaluations, goal=goal)
    return path

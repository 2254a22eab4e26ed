"""What a training run calls on its way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from machin_fast.data import Trajectory
    from machin_fast.training.progress import Outcome
    from machin_fast.training.trainer import Trainer


class Hooks:
    """Six moments of a run, in each of which nothing happens here: override what you need.

    A hook may look at all of the trainer, and end the run by ``trainer.stop(why)``. What it raises
    ends the run, too.
    """

    def on_start(self, trainer: Trainer) -> None:
        """Before the first turn.

        Args:
            trainer: Which begins, or goes on from a checkpoint.
        """

    def on_rollout(self, trainer: Trainer, trajectory: Trajectory) -> None:
        """Something was collected.

        Args:
            trainer: Which has counted it already.
            trajectory: What was collected, before it is prepared and stored.
        """

    def on_update(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """A turn is over: what was collected is stored, and a phase of learning done.

        Args:
            trainer: Which learns.
            figures: Means over the updates of this phase; none while the memory warms up.
        """

    def on_evaluation(self, trainer: Trainer, returns: NDArray[np.float64]) -> None:
        """The policy was evaluated.

        Args:
            trainer: Whose ``progress.evaluations`` ends with this one.
            returns: Of each episode, ``[episodes]``.
        """

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """A checkpoint was written.

        Args:
            trainer: Whose it is.
            path: Its folder.
        """

    def on_end(self, trainer: Trainer, outcome: Outcome) -> None:
        """The run is over, whatever the reason was.

        Args:
            trainer: Which ended.
            outcome: What came of it.
        """

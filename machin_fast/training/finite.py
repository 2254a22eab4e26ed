"""Numbers that are none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from machin_fast.training.hooks import Hooks

if TYPE_CHECKING:
    from machin_fast.data import Trajectory
    from machin_fast.training.trainer import Trainer


class CheckFinite(Hooks):
    """Ends a run at the first NaN or infinite number in what is observed, done, rewarded or
    learned, before a checkpoint could hold it.

    What it raises is a ValueError that says where the number came up, and names the last
    checkpoint, which is sound.
    """

    def on_rollout(self, trainer: Trainer, trajectory: Trajectory) -> None:
        final = {f"what followed in {name}": x for name, x in trajectory.final.items()}
        for name, x in {**trajectory.columns, **final}.items():
            if isinstance(x, Tensor) and not _finite(x):
                row = int((~x.isfinite()).reshape(len(x), -1).any(1).nonzero()[0])
                self._refuse(trainer, name, f"{x[row].tolist()} at position {row}")

    def on_update(self, trainer: Trainer, figures: dict[str, float]) -> None:
        for name, figure in figures.items():
            if not math.isfinite(figure):
                self._refuse(trainer, name, f"{figure}")
        networks = trainer.algorithm.top_models if hasattr(trainer.algorithm, "top_models") else ()
        for network in networks:
            for name, x in network.named_parameters():
                if not _finite(x):
                    bad = x[~x.isfinite()][0].item()
                    self._refuse(trainer, "parameters of networks", f"{bad} in {name}")

    def _refuse(self, trainer: Trainer, what: str, got: str) -> None:
        last = trainer.last_checkpoint
        cure = f" Go on from {last}" if last is not None else ""
        raise ValueError(
            f"Trainer: {what} must be finite, got {got} in the turn up to step "
            f"{trainer.progress.steps}.{cure}"
        )


def _finite(x: Tensor) -> bool:
    # One number to wait for: it is not finite if any other is not.
    if not x.is_floating_point():
        return True
    return bool(torch.isfinite(x.detach().sum())) or bool(x.isfinite().all())

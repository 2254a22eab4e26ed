"""Weights & Biases."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from machin_fast.training.logs import Line, Log, numbers
from machin_fast.utils.extras import need

if TYPE_CHECKING:
    from machin_fast.training.trainer import Trainer


class WeightsAndBiases(Log):
    """Logs ``<event>/<name>`` to a run of Weights & Biases.

    With a folder its id is kept there, and a resumed run goes on with it.

    Args:
        **options: Of ``wandb.init``: ``project``, ``mode="offline"`` and so on.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, **options: Any) -> None:
        need("wandb", extra="wandb", for_what="Weights & Biases")
        self._options = options
        self._run: Any = None

    def open(self, trainer: Trainer, step: int) -> None:
        wandb = importlib.import_module("wandb")
        options: dict[str, Any] = {
            "config": {"settings": asdict(trainer.settings), "about": trainer.about}
        }
        kept = None if trainer.folder is None else trainer.folder / "wandb_id"
        if kept is not None:
            options["dir"] = str(trainer.folder)
            if step and kept.exists():
                options.update(id=kept.read_text(), resume="allow")
        self._run = wandb.init(**{**options, **self._options})
        if kept is not None:
            kept.write_text(self._run.id)

    def write(self, line: Line) -> None:
        if self._run is not None:
            self._run.log({**numbers(line), "step": line["step"]})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None

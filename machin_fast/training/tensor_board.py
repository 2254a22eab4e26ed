"""TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from machin_fast.training.logs import Line, Log, numbers
from machin_fast.utils.extras import need

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from machin_fast.training.trainer import Trainer


class TensorBoard(Log):
    """Writes scalars ``<event>/<name>`` for TensorBoard.

    Args:
        folder: Where to. None: ``tensorboard`` in the folder of the run.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        need("tensorboard", extra="tensorboard", for_what="TensorBoard")
        self._folder = None if folder is None else Path(folder)
        self._writer: SummaryWriter | None = None

    def open(self, trainer: Trainer, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = self._folder or (trainer.folder and trainer.folder / "tensorboard")
        if folder is None:
            raise ValueError("TensorBoard: folder must be given where the run has none, got None")
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, line: Line) -> None:
        if self._writer is not None:
            for name, value in numbers(line).items():
                self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

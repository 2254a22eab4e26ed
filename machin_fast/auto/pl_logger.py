"""A Lightning logger that keeps pictures and files in folders."""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machin_fast.utils.extras import need

need("lightning", extra="lightning", for_what="machin_fast.auto.pl_logger")

from lightning.pytorch.loggers import Logger  # noqa: E402 (after what says how to install it)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


class LocalMediaLogger(Logger):
    """Keeps pictures and files; figures go elsewhere.

    Args:
        image_dir: Folder of pictures; made if it is not there.
        artifact_dir: Folder of other files; likewise.
    """

    def __init__(self, image_dir: str, artifact_dir: str) -> None:
        super().__init__()
        self.image_dir = Path(image_dir)
        self.artifact_dir = Path(artifact_dir)
        for folder in (self.image_dir, self.artifact_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._counters: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Of the logger."""
        return "LocalMediaLogger"

    @property
    def experiment(self) -> LocalMediaLogger:
        """Itself."""
        return self

    @property
    def version(self) -> str:
        """Of what is logged: there is one."""
        return "0"

    def log_hyperparams(
        self, params: dict[str, Any] | argparse.Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Does nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Does nothing."""

    def log_artifact(self, artifact: str, destination: str | None = None) -> None:
        """Copies a file; it replaces none: the next gets ``_1`` and so on.

        Args:
            artifact: Path of the file.
            destination: Path within the folder, which it does not lead out of. None: its name.

        Raises:
            ValueError: ``destination`` leads out of the folder.
        """
        name = Path(artifact).name if destination is None else destination
        path = self._within(self.artifact_dir, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact, self.enumerate_till_valid(str(path)))

    def log_image(
        self, log_name: str, image: Image | Figure | str, step: int | None = None
    ) -> None:
        """Keeps a picture as ``<log_name>_<step>.png``.

        Args:
            log_name: Of the picture.
            image: Of Pillow or matplotlib, or the path of a file.
            step: Of the run. None: 0, 1, ... of this name.

        Raises:
            ValueError: ``log_name`` leads out of the folder.
        """
        if step is None:
            step = self._counters[log_name]
            self._counters[log_name] += 1
        path = self._within(self.image_dir, f"{log_name}_{step}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, str):
            shutil.copyfile(image, path)
        elif hasattr(image, "savefig"):
            image.savefig(path)
        else:
            image.save(path)

    def save(self) -> None:
        """Does nothing: all is written at once."""

    def finalize(self, status: str) -> None:
        """Does nothing."""

    @staticmethod
    def enumerate_till_valid(path: str) -> str:
        """A path where nothing is yet.

        Args:
            path: The one to begin with.

        Returns:
            It; or the same with ``_1``, ``_2``, ... before its ending.
        """
        first = Path(path)
        others = (first.with_name(f"{first.stem}_{i}{first.suffix}") for i in itertools.count(1))
        return str(next(each for each in itertools.chain([first], others) if not each.exists()))

    @staticmethod
    def _within(folder: Path, name: str) -> Path:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f"LocalMediaLogger: name must lead to within {folder}, got {name!r}")
        return path

"""A folder of checkpoints, of which the newest ones stay."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machin_fast.training import checkpoint
from machin_fast.training.checkpoint import Checkpoint
from machin_fast.utils.tensor_file import Json

_FOLDER = re.compile(r"(\d{6,})_step_\d+")


class Checkpoints:
    """Checkpoints ``000001_step_10000`` and so on, numbered in the order in which they were
    written: what was written last is what is gone on with, also by who went back before.

    One program at a time may write to a folder.

    Args:
        folder: Made when it is needed.
        keep: How many stay, the newest; at least 1.

    Raises:
        ValueError: ``keep`` is below 1.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints: keep must be at least 1, got {keep}")
        self.folder = Path(folder)
        self.keep = keep

    def save(self, states: Mapping[str, Any], *, step: int, about: Json = None) -> Path:
        """Writes a checkpoint; what broken off writing left goes before it, and those that are too
        many go after it.

        Args:
            states, step, about: See ``checkpoint.write``.

        Returns:
            Its folder.

        Raises:
            OSError: It cannot be written; those that were there still are.
            TypeError, ValueError: See ``checkpoint.write``; likewise.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{checkpoint.TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        there = self.all()
        number = 1 + (_number(there[-1]) if there else 0)
        path = self.folder / f"{number:06d}_step_{step}"
        checkpoint.write(path, states, step=step, about=about)
        for old in self.all()[: -self.keep]:
            _remove(old)
        return path

    def all(self) -> list[Path]:
        """Their folders, oldest first, also damaged ones."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if _FOLDER.fullmatch(path.name)), key=_number)

    def latest(self) -> Checkpoint:
        """The newest whole one. A warning tells of each that is passed over, and why.

        Returns:
            The checkpoint.

        Raises:
            FileNotFoundError: There is none.
            ValueError: None is whole, or the newest whole one is of a later version.
        """
        there = self.all()
        if not there:
            raise FileNotFoundError(
                f"Checkpoints.latest: folder must have a checkpoint, got {self.folder}, "
                "which has none"
            )
        faults = []
        for path in reversed(there):
            try:
                return checkpoint.read(path)
            except (checkpoint.DamagedError, OSError) as error:
                faults.append(str(error))
                warnings.warn(f"{path.name} is passed over: {error}", stacklevel=2)
        raise checkpoint.DamagedError(
            f"Checkpoints.latest: folder must have a whole checkpoint, got {len(there)} damaged "
            f"ones: {'; '.join(faults)}"
        )


def _number(path: Path) -> int:
    return int(path.name.partition("_")[0])


def _remove(path: Path) -> None:
    """At once, for whoever looks: one that is half removed would seem damaged."""
    hidden = path.with_name(f"{checkpoint.TEMPORARY}{path.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

"""Where the figures of a run are written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from machin_fast.training.trainer import Trainer

Line: TypeAlias = dict[str, Any]
"""Figures by name. ``event`` is one of train, evaluation, checkpoint, resume, end; ``step`` and
``seconds`` say when it was."""


class Log:
    """Something that takes lines; does nothing here."""

    def open(self, trainer: Trainer, step: int) -> None:
        """Gets ready, before the first line.

        Args:
            trainer: Whose figures will come.
            step: Where the run begins; above 0 it is resumed, and what was written of later steps
                did not happen.
        """

    def write(self, line: Line) -> None:
        """Takes a line.

        Args:
            line: See ``Line``.
        """

    def close(self) -> None:
        """Finishes; may be called twice."""


class JsonLines(Log):
    """A file of one JSON object a line.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def open(self, trainer: Trainer, step: int) -> None:
        kept = [line for line in read_lines(self.path) if step and line["step"] <= step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shorter = self.path.with_name(f".{self.path.name}.tmp")
        shorter.write_text("".join(json.dumps(line) + "\n" for line in kept))
        shorter.replace(self.path)
        self._file = self.path.open("a")

    def write(self, line: Line) -> None:
        if self._file is not None:
            # JSON knows no NaN.
            known = {k: None if _is_none(x) else x for k, x in line.items()}
            self._file.write(json.dumps(known) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _is_none(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read_lines(path: Path) -> Iterator[Line]:
    """Lines of a file of ``JsonLines``, without those that were broken off.

    Args:
        path: Of the file; it need not exist.

    Yields:
        The lines.
    """
    if not path.exists():
        return
    with path.open() as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                yield line


def numbers(line: Line) -> dict[str, float]:
    """The figures of a line, without its step and lists.

    Args:
        line: See ``Line``.

    Returns:
        By name ``<event>/<name>``.
    """
    return {
        f"{line['event']}/{name}": value
        for name, value in line.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }

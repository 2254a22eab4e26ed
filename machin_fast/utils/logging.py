"""The default logger, and one that says nothing.

Attributes:
    default_logger: Writes to stderr, from level INFO on; in colour if that is a terminal.
    fake_logger: Says nothing.
"""

from __future__ import annotations

import logging
import os
from typing import Any

_COLOURS = {"DEBUG": "37", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        colour = _COLOURS.get(record.levelname)
        # https://no-color.org
        if colour is None or os.environ.get("NO_COLOR") or not self.stream.isatty():
            return text
        return f"\033[{colour}m{text}\033[0m"


class FakeLogger:
    """Has the methods of a logger; they do nothing."""

    def setLevel(self, level: int | str) -> None:  # noqa: N802 (as of logging)
        """Does nothing."""

    def debug(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def info(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def warning(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def warn(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def error(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def exception(self, msg: object, *args: Any, exc_info: Any = True, **kwargs: Any) -> None:
        """Does nothing."""

    def critical(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""


def _make_default_logger() -> logging.Logger:
    logger = logging.getLogger("default_logger")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = _Handler()
        handler.setFormatter(
            logging.Formatter("[%(asctime)s] <%(levelname)s>:%(name)s:%(message)s")
        )
        logger.addHandler(handler)
    return logger


default_logger = _make_default_logger()
fake_logger = FakeLogger()

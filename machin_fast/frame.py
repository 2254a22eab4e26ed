"""Machin's import paths: ``machin_fast.frame.buffers`` is ``machin_fast.buffers``, and so on."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from machin_fast._same_module import SameModules

__all__ = ["algorithms", "buffers", "helpers", "noise", "transition"]  # noqa: F822 (lazy)
__path__: list[str] = []  # a package, for the import statement


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _own_name(other: str) -> str | None:
    name = other.removeprefix(f"{__name__}.")
    if name == other or name.partition(".")[0] not in __all__:
        return None
    return f"machin_fast.{name}"


sys.meta_path.insert(0, SameModules(_own_name))

"""Small helpers that know nothing of the rest of the house. They load when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "checker",
    "conf",
    "helper_classes",
    "learning_rate",
    "logging",
    "media",
    "prepare",
    "save_env",
    "tensor_board",
    "visualize",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

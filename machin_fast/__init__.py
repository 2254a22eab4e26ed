"""Reinforcement learning for PyTorch with a C++/CUDA engine.

Nothing heavy is imported here: packages load when they are first used. ``machin_fast.ops``,
``functional`` and ``data`` need torch and numpy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from machin_fast._same_module import use_as

if TYPE_CHECKING:
    from machin_fast._extension import build_info
    from machin_fast.env import ActorPool

__all__ = ["ActorPool", "build_info", "use_as"]

_PACKAGES = (
    "algorithms", "buffers", "collect", "data", "env", "frame", "functional", "model", "noise",
    "ops", "policies", "training", "transition", "utils",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "build_info":
        return importlib.import_module("machin_fast._extension").build_info
    if name == "ActorPool":
        return importlib.import_module("machin_fast.env").ActorPool
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("machin_fast")
    if name in _PACKAGES:
        return importlib.import_module(f"machin_fast.{name}")
    raise AttributeError(f"module 'machin_fast' has no attribute {name!r}")

"""Reinforcement learning for PyTorch with a C++/CUDA engine.

Nothing heavy is imported here: ``machin_fast.ops``, ``functional`` and ``data`` need torch and
numpy, and load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machin_fast._extension import build_info

__all__ = ["build_info"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("machin_fast._extension"), name)
    if name in ("ops", "functional", "data"):
        return importlib.import_module(f"machin_fast.{name}")
    raise AttributeError(f"module 'machin_fast' has no attribute {name!r}")

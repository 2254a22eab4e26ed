"""Environments: many at once, in worker processes or as batched native ones, and their wrappers.

Nothing is imported before it is used: worker processes import this package, and need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machin_fast.env.native import NativeEnv
    from machin_fast.env.pool.actor_pool import ActorPool, Received, WorkerState
    from machin_fast.env.pool.errors import EnvFailed, WorkerDied, WorkerHung
    from machin_fast.env.pool.rollout import RolloutBlock

__all__ = [
    "ActorPool", "EnvFailed", "NativeEnv", "Received", "RolloutBlock", "WorkerDied", "WorkerHung",
    "WorkerState",
]  # fmt: skip

_PLACES = {
    "ActorPool": "pool.actor_pool",
    "EnvFailed": "pool.errors",
    "NativeEnv": "native",
    "Received": "pool.actor_pool",
    "RolloutBlock": "pool.rollout",
    "WorkerDied": "pool.errors",
    "WorkerHung": "pool.errors",
    "WorkerState": "pool.actor_pool",
}
_PACKAGES = ("pool", "utils", "wrappers")


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

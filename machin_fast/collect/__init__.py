"""Collecting experience from environments."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from machin_fast.collect.collector import Collector

if TYPE_CHECKING:
    from machin_fast.collect.worker_collector import WorkerCollector, WorkerFailed

__all__ = ["Collector", "WorkerCollector", "WorkerFailed"]


def __getattr__(name: str) -> Any:
    if name in ("WorkerCollector", "WorkerFailed"):
        return getattr(importlib.import_module(f"{__name__}.worker_collector"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Optional peers: imported when used, and named with the reason when they do not import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any


class Missing(Exception):
    """A peer cannot take part; the text says why."""


def load(module: str) -> Any:
    """Imports ``module``.

    Raises:
        Missing: It is not installed, or it is and fails to load.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a compiled peer may fail in any way: OSError, RuntimeError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Missing(reason.rpartition("/")[2][:120]) from error


@cache
def njit(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``kernel`` compiled once with the flags a careful numba user sets.

    Raises:
        Missing: numba does not import.
    """
    compiled: Callable[..., Any] = load("numba").njit(fastmath=True, error_model="numpy")(kernel)
    return compiled

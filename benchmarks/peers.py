"""Optional peers: imported when used, and named with the reason when they do not import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any


class PeerError(Exception):
    """A peer cannot take part; the text says why."""


def load(module: str) -> Any:
    """Imports ``module``.

    Raises:
        PeerError: It is not installed, or it is and fails to load.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a compiled peer may fail in any way: OSError, RuntimeError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PeerError(reason.rpartition("/")[2][:120]) from error


@cache
def njit(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``kernel`` compiled once with the flags a careful numba user sets.

    All of fastmath but ``reassoc``, which lengthens the dependency chain of a recurrence: 1.1 ns a
    step become 1.9.

    Raises:
        PeerError: numba does not import.
    """
    flags = {"contract", "nnan", "ninf", "nsz", "arcp", "afn"}
    compiled: Callable[..., Any] = load("numba").njit(fastmath=flags, error_model="numpy")(kernel)
    return compiled

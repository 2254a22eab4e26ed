"""What goes through the pipe between the parent and a worker: anything but the steps' data."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle  # type: ignore[import-untyped]


def dumps(message: Any) -> bytes:
    """Pickles functions and classes of the main program too, by their code: workers do not import
    it. On its way back such a class becomes the parent's own again."""
    try:
        return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return by_value(message)


def by_value(message: Any) -> bytes:
    """As ``dumps``, where the receiver may be unable to import what the sender can."""
    return bytes(cloudpickle.dumps(message))


loads = pickle.loads

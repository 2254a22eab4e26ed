"""Trajectories as the columns that Machin's buffers take."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from machin_fast.data.trajectory import Trajectory

_MAJOR = ("state", "action", "next_state")
_FLAGS = ("reward", "terminated")


def columns_of(op: str, trajectory: Trajectory) -> dict[str, Any]:
    """Columns for ``Buffer.store_transitions``.

    Args:
        op: Who asks, for errors.
        trajectory: With state, action and reward. A plain column ``state`` becomes
            ``{"state": column}``, one number a step ``[n, 1]``.

    Returns:
        ``state``, ``action``, ``next_state``, ``reward``, ``terminal`` and custom attributes.

    Raises:
        ValueError: A column is missing, or nobody knows what followed the last step of a segment.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in _MAJOR}
    rest: dict[str, Any] = {}
    for name, column in trajectory.columns.items():
        major, _, key = name.partition("/")
        if major in ("state", "action"):
            found[major][key or major] = _wide(column)
        elif major not in _FLAGS and not major.startswith("next_"):
            rest[name] = column
        if major == "state":
            found["next_state"][key or major] = _wide(trajectory.next(name))
    for name in ("state", "action"):
        if not found[name]:
            raise ValueError(
                f"{op}: trajectory must have {name}, got {', '.join(trajectory.columns)}"
            )
    if "reward" not in trajectory:
        raise ValueError(f"{op}: trajectory must have reward, got {', '.join(trajectory.columns)}")
    return {
        **found,
        "reward": trajectory["reward"],
        "terminal": trajectory.flag("terminated"),
        **rest,
    }


def _wide(column: Any) -> Any:
    return column[:, None] if isinstance(column, Tensor) and column.dim() == 1 else column

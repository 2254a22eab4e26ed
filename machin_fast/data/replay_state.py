"""A replay as a state: to keep, to save and to go on from, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from machin_fast import ops
from machin_fast.utils import state_file

if TYPE_CHECKING:
    from machin_fast.data.replay import Replay

_SETTINGS = ("capacity", "priority", "window", "evict")
_PARAMETERS = ("beta", "beta_steps")


def take(replay: Replay, *, copy: bool = True) -> dict[str, Any]:
    """The state of a replay. Without ``copy`` tensors are views of its memory."""

    def kept(x: Tensor) -> Tensor:
        return x.clone() if copy else x

    used = min(replay.appended, replay.capacity)
    table, tree, frames = replay._table, replay._priorities, replay._frames
    state: dict[str, Any] = {
        "settings": _settings(replay),
        "parameters": {name: getattr(replay, name) for name in _PARAMETERS},
        "counters": kept(replay._counters.tensor),
        "names": list(table.columns),
        "columns": {name: kept(x[:used]) for name, x in table.tensors.items()},
        "lists": {name: x[:used] for name, x in table.lists.items()},
    }
    if tree is not None:
        state["parameters"].update(alpha=tree.alpha, epsilon=tree.epsilon)
        # What stands above the leaves is computed from them.
        state["mass"] = kept(tree.leaves[:used])
        state["largest"] = kept(tree.largest)
    if frames is not None:
        state["frames"] = frames.state_dict(copy=copy)
    return state


def put(replay: Replay, state: Mapping[str, Any]) -> None:
    """Makes a replay what another one was when ``take`` saw it.

    Raises:
        ValueError: It was made with other settings, or has other columns; nothing is changed.
        TypeError: Its columns have other dtypes; nothing is changed.
    """
    for name, value in _settings(replay).items():
        found = state.get("settings", {}).get(name, "none")
        if found != value:
            raise ValueError(f"Replay.load_state_dict: {name} must be {value!r}, got {found!r}")
    missing = take(replay, copy=False).keys() - state.keys()
    if missing:
        raise ValueError(
            "Replay.load_state_dict: state must be that of such a replay, "
            f"got none of {', '.join(sorted(missing))}"
        )
    rows = {**state["columns"], **state["lists"]}
    rows = {name: rows[name] for name in state["names"]}
    table, tree, frames = replay._table, replay._priorities, replay._frames
    if rows:
        table.check("Replay.load_state_dict", rows)
    if frames is not None:
        frames.load_state_dict(state["frames"])
    if rows:
        table.write(
            {k: x if isinstance(x, list) else x.to(replay.device) for k, x in rows.items()}, 0
        )
    else:
        table.create({})  # the next append decides
    for name, value in state["parameters"].items():
        setattr(tree if name in ("alpha", "epsilon") else replay, name, value)
    replay._counters.tensor.copy_(state["counters"])
    if tree is not None:
        tree.nodes.zero_()
        tree.leaves[: state["mass"].shape[0]] = state["mass"]
        ops.sum_tree_rebuild_(tree.nodes, capacity=replay.capacity)
        tree.largest.copy_(state["largest"])
    replay._direct = replay._new_direct()


def save(replay: Replay, path: str | os.PathLike[str]) -> None:
    """Writes the state of a replay to a file."""
    state_file.save_state(path, take(replay, copy=False), kind="replay")


def load(replay: Replay, path: str | os.PathLike[str]) -> None:
    """Takes over the state of a replay from a file."""
    put(replay, state_file.load_state(path, kind="replay", device="cpu"))


def _settings(replay: Replay) -> dict[str, Any]:
    frames = replay._frames
    names = [] if frames is None else [*frames.names, frames.stack]
    return {**{name: getattr(replay, name) for name in _SETTINGS}, "frames": names}

"""A buffer as a state: to keep, to save and to go on from, bit for bit.

A state is made of what ``machin_fast.utils.state_file`` saves. But custom attributes may be any
objects, and transitions that share no columns are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from machin_fast.buffers.rows import Layout, Rows
from machin_fast.data.columns import Column
from machin_fast.transition import Transition

if TYPE_CHECKING:
    from machin_fast.buffers.buffer import Buffer

# Those that decide what is stored and what a batch is.
_SETTINGS = ("buffer_size", "n_step", "sample_length", "sample_dimension")
_KINDS: dict[type, str] = {
    Tensor: "tensor", bool: "bool", int: "int", float: "float", object: "object"
}  # fmt: skip
_NUMPY = "numpy."


def take(buffer: Buffer) -> dict[str, Any]:
    """The state of a buffer."""
    return {
        "settings": _settings(buffer),
        "storage": buffer.storage.state_dict(),
        "episodes": buffer._episodes.state_dict(),
    }


def put(buffer: Buffer, state: Mapping[str, Any]) -> None:
    """Makes a buffer what another one was when ``take`` saw it.

    Raises:
        TypeError: Its storage cannot do that; nothing is changed.
        ValueError: It is of another class, or was made with other settings; nothing is changed.
    """
    op = f"{type(buffer).__name__}.load_state_dict"
    for name, value in _settings(buffer).items():
        found = state.get("settings", {}).get(name, "none")
        if found != value:
            raise ValueError(f"{op}: {name} must be {value!r}, got {found!r}")
    storage, episodes = state["storage"], state["episodes"]
    buffer.storage.load_state_dict(storage)
    buffer._episodes.load_state_dict(episodes)


def rows_state(rows: Rows) -> dict[str, Any]:
    """Transitions without classes; of others than ``Transition``, the transitions themselves."""
    if not any(map(len, rows.columns.values())):
        return {"layout": None, "kinds": {}, "columns": {}}
    if rows.layout is not None and rows.layout.kind is not Transition:
        rows = rows.head(len(rows))
        rows.loosen_all()
    layout = None
    if rows.layout is not None:
        names, keys = rows.layout.names, rows.layout.keys
        layout = {"names": [*map(list, names)], "keys": {k: list(v) for k, v in keys.items()}}
    return {
        "layout": layout,
        "kinds": {name: _name(kind) for name, kind in rows.kinds.items()},
        "columns": {name: _copied(column) for name, column in rows.columns.items()},
    }


def rows_of(state: Mapping[str, Any], device: torch.device) -> Rows:
    """The transitions that ``rows_state`` saw; of tensors some may be its own."""
    layout, columns = state["layout"], state["columns"]
    if not columns:
        return Rows(None, {}, {})
    if layout is None:
        (transitions,) = columns.values()
        return Rows.copied(transitions, device)
    major, sub, custom = map(tuple, layout["names"])
    found = Layout(Transition, (major, sub, custom), layout["keys"])
    rows: dict[str, Column] = {}
    for name, (attribute, _) in found.fields.items():
        column = columns[name]
        if isinstance(column, Tensor):
            rows[name] = column.to(device)
        else:
            rows[name] = _copied(column, None if attribute in custom else device)
    return Rows(found, {name: _kind(kind) for name, kind in state["kinds"].items()}, rows)


def _settings(buffer: Buffer) -> dict[str, Any]:
    known = vars(buffer)
    return {
        "class": type(buffer).__name__,
        "storage": type(buffer.storage).__name__,
        **{name: int(known[name]) for name in _SETTINGS if name in known},
        # It is in the rewards that are stored, if they are of several steps.
        "discount": float(buffer.discount) if buffer.n_step > 1 else None,
    }


def _copied(column: Column, device: torch.device | None = None) -> Column:
    """Copies of tensors, those that are objects of a list included; else the same objects."""
    if isinstance(column, list):
        return [_copied(x, device) if isinstance(x, Tensor) else x for x in column]
    return column.detach().to(device or column.device, copy=True)


def _name(kind: type) -> str:
    return _KINDS.get(kind) or f"{_NUMPY}{kind.__name__}"


def _kind(name: str) -> type:
    if name.startswith(_NUMPY):
        return np.dtype(name.removeprefix(_NUMPY)).type
    return next(kind for kind, known in _KINDS.items() if known == name)

"""What trajectories are made of: transitions, episodes and rollouts as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from machin_fast.data.columns import Column, as_columns, check_same_columns, take_rows

ENDS = ("terminated", "truncated")
"""Columns of flags that end an episode."""


def columns_of_transitions(
    transitions: Iterable[Mapping[str, Any]], *, batched: bool
) -> dict[str, Column]:
    """As ``Trajectory.from_transitions``."""
    op = "Trajectory.from_transitions"
    steps = [_flatten(each) for each in transitions]
    if not steps:
        raise ValueError(f"{op}: transitions must be at least 1, got 0")
    names = list(steps[0])
    for i, step in enumerate(steps):
        if step.keys() != steps[0].keys():
            raise ValueError(
                f"{op}: transitions must all have {', '.join(names)}, "
                f"got {', '.join(step)} at position {i}"
            )
    _check_one_terminal(f"{op}: transitions", names)
    columns: dict[str, Any] = {}
    for name in names:
        values = [step[name] for step in steps]
        if batched and isinstance(values[0], Tensor) and values[0].dim():
            values = [value.squeeze(0) for value in values]
        columns["terminated" if name == "terminal" else name] = values
    for name in ENDS:
        if name in columns:
            columns[name] = [bool(value) for value in columns[name]]
    return as_columns(op, columns, device_of(steps[0]))


def parts_of_episode(position: int, episode: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the trajectory of one episode, as ``Trajectory.from_episodes`` takes it."""
    op = f"Trajectory.from_episodes: episode {position}"
    flat = _flatten(episode)
    flags = {name: flat.pop(name) for name in (*ENDS, "terminal") if name in flat}
    device = device_of(episode)
    columns = as_columns(op, flat, device)
    if not columns:
        raise ValueError(
            f"{op} must have columns other than flags, got {', '.join(flags) or 'none'}"
        )
    _check_one_terminal(op, flags)
    common = columns["reward"] if "reward" in columns else min(columns.values(), key=len)
    steps = len(common)
    if steps == 0:
        raise ValueError(f"{op} must have at least 1 step, got 0")
    final = {name: column[steps:] for name, column in columns.items() if len(column) == steps + 1}
    for name, value in flags.items():
        flag = torch.as_tensor(value, dtype=torch.bool)
        if not flag.dim():
            flag = torch.cat([torch.zeros(steps - 1, dtype=torch.bool), flag[None]])
        columns["terminated" if name == "terminal" else name] = flag.to(device)
    rows = {name: column[:steps] if name in final else column for name, column in columns.items()}
    return {"columns": rows, "bounds": [0, steps], "final": final}


def parts_of_rollout(
    columns: Mapping[str, Any], final: Mapping[str, Any] | None, valid: Tensor | None
) -> dict[str, Any]:
    """Arguments for the trajectory of a rollout, as ``Trajectory.from_rollout`` takes it."""
    op = "Trajectory.from_rollout"
    grid = as_columns(op, columns, None)
    steps, envs = _grid_shape(op, grid)
    flat: dict[str, Column] = {name: _env_major(tensor_of(x)) for name, x in grid.items()}
    ends = as_columns(op, final or {}, None)
    _check_rollout(op, flat, ends, valid, steps, envs)
    if not steps * envs:
        return {"columns": flat, "envs": envs or None}
    last = torch.arange(steps - 1, steps * envs, steps)
    for name, rows in ends.items():
        if f"next_{name}" not in flat:
            _check_not_truncated_within(op, name, flat, last, valid)
            following = tensor_of(flat[name]).roll(-1, 0)
            following[last] = tensor_of(rows)
            flat[f"next_{name}"] = following
    cut = ended_rows(flat, steps * envs)
    cut[last] = True
    if valid is None:
        return {"columns": flat, "bounds": bounds_behind(cut), "envs": envs}
    # A segment still ends where its last valid row does.
    kept = _env_major(valid).nonzero().squeeze(1)
    segment = (cut.cumsum(0) - cut.long())[kept.cpu()]
    edges = (segment[1:] != segment[:-1]).nonzero().squeeze(1) + 1
    bounds = torch.cat([edges.new_zeros(1), edges, edges.new_tensor([kept.numel()])])
    return {"columns": take_rows(flat, kept), "bounds": bounds.unique()}


def device_of(columns: Mapping[str, Any]) -> torch.device | None:
    """Where the first tensor is."""
    for value in _flatten(columns).values():
        if isinstance(value, Tensor):
            return value.device
    return None


def ended_rows(columns: Mapping[str, Column], n: int) -> Tensor:
    """``[n]`` bool, on the CPU: an episode ended with this step."""
    ended = torch.zeros(n, dtype=torch.bool)
    for name in ENDS:
        if name in columns:
            flag = tensor_of(columns[name], name)
            if flag.dtype != torch.bool:
                raise TypeError(f"Trajectory: {name} must be bool, got {flag.dtype}")
            if flag.shape != (n,):
                raise ValueError(
                    f"Trajectory: {name} must have shape [{n}], got {list(flag.shape)}"
                )
            ended |= flag.cpu()
    return ended


def bounds_behind(cut: Tensor) -> Tensor:
    """Bounds of the segments that end with the rows where ``cut`` is True."""
    ends = cut.nonzero().squeeze(1) + 1
    return torch.cat([ends.new_zeros(1), ends])


def tensor_of(column: Column, name: str = "the column") -> Tensor:
    """A column of which it is known, or must be, that it is no list."""
    if isinstance(column, list):
        raise TypeError(f"Trajectory: {name} must be a tensor, got a list")
    return column


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _check_one_terminal(op: str, names: Iterable[str]) -> None:
    if {"terminal", "terminated"} <= {*names}:
        raise ValueError(f"{op} must have terminal or terminated, got both")


def _grid_shape(op: str, grid: Mapping[str, Column]) -> tuple[int, int]:
    if not grid:
        raise ValueError(f"{op}: columns must be at least 1, got 0")
    first = next(iter(grid))
    shape = list(tensor_of(grid[first], first).shape[:2])
    for name, column in grid.items():
        if len(shape) != 2 or list(tensor_of(column, name).shape[:2]) != shape:
            raise ValueError(
                f"{op}: {name} must be [steps, envs, ...] like {first}, "
                f"got {list(tensor_of(column).shape)}"
            )
    return shape[0], shape[1]


def _check_rollout(
    op: str,
    flat: Mapping[str, Column],
    final: Mapping[str, Column],
    valid: Tensor | None,
    steps: int,
    envs: int,
) -> None:
    for name, rows in final.items():
        if name not in flat:
            raise ValueError(f"{op}: final must name columns, got {name}")
        if len(rows) != envs:
            raise ValueError(
                f"{op}: final {name} must have {envs} rows, one an environment, got {len(rows)}"
            )
        check_same_columns(op, {f"final {name}": rows}, {f"final {name}": flat[name]})
    if valid is not None and valid.shape != (steps, envs):
        raise ValueError(f"{op}: valid must have shape [{steps}, {envs}], got {list(valid.shape)}")
    if valid is not None and valid.dtype != torch.bool:
        raise TypeError(f"{op}: valid must be bool, got {valid.dtype}")


def _check_not_truncated_within(
    op: str, name: str, flat: Mapping[str, Column], last: Tensor, valid: Tensor | None
) -> None:
    """A terminated step has no future; what followed a truncated one must stand in the next row,
    as it does where that is one in which the environment only reset itself."""
    if "truncated" not in flat:
        return
    cut = tensor_of(flat["truncated"]).clone()
    cut[last] = False
    if "terminated" in flat:
        cut &= ~tensor_of(flat["terminated"])
    if valid is not None:
        cut &= _env_major(valid).roll(-1, 0)
    if cut.any():
        raise ValueError(
            f"{op}: next_{name} must be given where episodes are truncated within, got final alone"
        )


def _env_major(grid: Tensor) -> Tensor:
    """``[steps, envs, ...]`` as ``[envs * steps, ...]``."""
    return grid.transpose(0, 1).flatten(0, 1)

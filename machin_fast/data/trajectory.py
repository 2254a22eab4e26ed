"""Trajectories: the steps of many episodes in flat columns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from machin_fast.data.columns import (
    Column,
    as_columns,
    check_same_columns,
    common_length,
    take_rows,
)
from machin_fast.utils import tensor_file

_CPU = torch.device("cpu")
_ENDS = ("terminated", "truncated")


class Trajectory:
    """Steps in flat columns ``[N, ...]``, cut into segments, each an episode or a slice of one.

    Segment i is rows ``bounds[i]`` to ``bounds[i + 1]``. Within a segment each row is followed by
    the next, so no observation is stored twice: what followed the last step of each segment stands
    in ``final``. A ``terminated`` step was the last of its episode and has no future; after a
    ``truncated`` one the episode would have gone on. A segment whose last step is neither was cut
    by whoever collected it.

    A trajectory is not changed after it is made: ``with_columns`` and the transforms
    (``machin_fast.data.transforms``) return others, which share what did not change.

    Args:
        columns: For each name ``[N, ...]``, a tensor, an array, a list, or a mapping of such,
            which become ``name/key``. ``terminated`` and ``truncated``, ``[N]`` bool, end
            episodes. ``next_<name>`` beside ``<name>`` is what followed each step: where it is
            the next row anyway it is dropped, its rows at the ends of segments become ``final``.
        bounds: ``[segments + 1]``, int64, from 0 to N, ascending. None: a segment ends where an
            episode does.
        final: For each observation ``[segments, ...]``, what followed the last step.
        envs: Rows are ``[envs, steps]``, one environment after another: ``rollout`` shows them as
            ``[steps, envs]``.

    Attributes:
        columns: For each name ``[N, ...]``, or a list of N objects.
        bounds: ``[segments + 1]``, int64, on the CPU.
        final: For some names of columns ``[segments, ...]``.

    Raises:
        ValueError: Lengths, bounds or shapes do not fit each other, or an episode ends within a
            segment.
        TypeError: Something is no tensor, array or list, or a flag is no bool.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        bounds: Tensor | Sequence[int] | None = None,
        *,
        final: Mapping[str, Any] | None = None,
        envs: int | None = None,
    ) -> None:
        flat = as_columns("Trajectory", columns, None)
        n = common_length("Trajectory", flat)
        ended = _ended(flat, n)
        self.bounds = _bounds(bounds, ended, n, envs)
        self.columns = flat
        self.final = as_columns("Trajectory", final or {}, None)
        self.envs = envs
        for name, rows in self.final.items():
            if name not in flat:
                raise ValueError(f"Trajectory: final must name columns, got {name}")
            if len(rows) != self.segments:
                raise ValueError(
                    f"Trajectory: final {name} must have {self.segments} rows, one a segment, "
                    f"got {len(rows)}"
                )
        check_same_columns(
            "Trajectory", self.final, {name: flat[name] for name in self.final}
        )
        if n:
            inside = ended.clone()
            inside[self.bounds[1:] - 1] = False
            if inside.any():
                raise ValueError(
                    "Trajectory: bounds must end a segment where an episode ends, got none "
                    f"behind row {int(inside.int().argmax())}"
                )
        self._keep_what_does_not_follow()

    @classmethod
    def from_transitions(
        cls, transitions: Iterable[Mapping[str, Any]], *, batched: bool = False
    ) -> Trajectory:
        """Makes a trajectory of steps in the order they were taken, of one episode or more.

        Args:
            transitions: Dicts of equal keys, such as state, action, reward, next_state,
                terminated (or ``terminal``) and truncated; values may be dicts.
            batched: Tensors have a leading dimension of 1, as in Machin's transitions.

        Returns:
            The trajectory. An episode ends with a terminated or truncated step.

        Raises:
            ValueError: There is no transition, or keys differ.
        """
        steps = [_flatten(each) for each in transitions]
        if not steps:
            raise ValueError("Trajectory.from_transitions: transitions must be at least 1, got 0")
        names = list(steps[0])
        for i, step in enumerate(steps):
            if list(step) != names:
                raise ValueError(
                    f"Trajectory.from_transitions: transitions must all have {', '.join(names)}, "
                    f"got {', '.join(step)} at position {i}"
                )
        columns: dict[str, Any] = {}
        for name in names:
            values = [step[name] for step in steps]
            if batched and isinstance(values[0], Tensor) and values[0].dim():
                values = [value.squeeze(0) for value in values]
            columns["terminated" if name == "terminal" else name] = values
        for name in _ENDS:
            if name in columns:
                columns[name] = [bool(value) for value in columns[name]]
        return cls(columns)

    @classmethod
    def from_episodes(cls, episodes: Iterable[Mapping[str, Any]]) -> Trajectory:
        """Makes a trajectory of episodes, one dict each.

        Args:
            episodes: For each name ``[T, ...]``, or a mapping of such. What has T + 1 rows where
                ``reward`` (or the shortest) has T is an observation whose last row followed the
                last step. ``terminated`` and ``truncated`` may be one bool for the last step.

        Returns:
            The trajectory, one segment an episode.

        Raises:
            ValueError: There is no episode, one has no step, or columns differ.
        """
        parts = [_one_episode(i, episode) for i, episode in enumerate(episodes)]
        if not parts:
            raise ValueError("Trajectory.from_episodes: episodes must be at least 1, got 0")
        return concat(parts)

    @classmethod
    def from_rollout(
        cls,
        columns: Mapping[str, Any],
        *,
        final: Mapping[str, Any] | None = None,
        valid: Tensor | None = None,
    ) -> Trajectory:
        """Makes a trajectory of what a vector of environments did.

        Rows come environment by environment. Tensors whose memory lies so
        (``torch.empty(envs, steps, ...).transpose(0, 1)``) are not copied; ``rollout`` shows them
        as ``[steps, envs]`` again.

        Args:
            columns: For each name ``[steps, envs, ...]``, a tensor, or a mapping of such. Give
                ``next_<observation>`` where episodes may be truncated within.
            final: For each observation ``[envs, ...]``, what followed the last step.
            valid: ``[steps, envs]``, bool. Rows where it is False are left out, such as those in
                which an environment only reset itself.

        Returns:
            The trajectory. A segment ends with an episode, or with the rollout.

        Raises:
            ValueError: Shapes differ.
        """
        grid = as_columns("Trajectory.from_rollout", columns, None)
        shape = _grid_shape(grid)
        steps, envs = shape
        flat: dict[str, Column] = {
            name: _env_major(_tensor(column)) for name, column in grid.items()
        }
        last = torch.arange(steps - 1, steps * envs, steps)
        for name, rows in as_columns("Trajectory.from_rollout", final or {}, None).items():
            following = _tensor(flat[name]).roll(-1, 0)
            following[last] = _tensor(rows)
            flat.setdefault(f"next_{name}", following)
        cut = _ended(flat, steps * envs)
        cut[last] = True
        if valid is None:
            return cls(flat, _bounds_behind(cut), envs=envs)
        # A segment still ends where its last valid row does.
        kept = _env_major(valid).nonzero().squeeze(1)
        segment = (cut.cumsum(0) - cut.long())[kept.cpu()]
        edges = (segment[1:] != segment[:-1]).nonzero().squeeze(1) + 1
        bounds = torch.cat([edges.new_zeros(1), edges, edges.new_tensor([kept.numel()])])
        return cls(take_rows(flat, kept), bounds.unique())

    def __len__(self) -> int:
        """Number of steps."""
        return int(self.bounds[-1])

    def __getitem__(self, name: str) -> Tensor:
        """The column ``name``, which must be a tensor."""
        return _tensor(self.columns[name])

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @property
    def segments(self) -> int:
        """Number of segments."""
        return self.bounds.numel() - 1

    @property
    def device(self) -> torch.device:
        """Where the columns live."""
        tensors = (x for x in self.columns.values() if isinstance(x, Tensor))
        return next((x.device for x in tensors), _CPU)

    @property
    def lengths(self) -> Tensor:
        """Steps of each segment, ``[segments]``, int64, on the CPU."""
        return self.bounds.diff()

    @property
    def last(self) -> Tensor:
        """Row of each segment's last step, ``[segments]``, int64, on the CPU."""
        return self.bounds[1:] - 1

    @property
    def segment_of_row(self) -> Tensor:
        """``[N]``, int64, on the CPU."""
        return torch.repeat_interleave(self.lengths)

    @property
    def position(self) -> Tensor:
        """Steps since the segment's first, ``[N]``, int64, on the CPU."""
        return torch.arange(len(self)) - self.bounds[self.segment_of_row]

    def flag(self, name: str) -> Tensor:
        """``terminated`` or ``truncated``, ``[N]`` bool; all False if there is no such column."""
        if name in self.columns:
            return self[name]
        return torch.zeros(len(self), dtype=torch.bool, device=self.device)

    def next(self, name: str) -> Tensor:
        """What followed each step, ``[N, ...]``: the next row, or ``final`` behind a segment.

        Raises:
            ValueError: Nobody knows what followed the last step of a segment.
        """
        if f"next_{name}" in self.columns:
            return self[f"next_{name}"]
        if name not in self.final:
            raise ValueError(
                f"Trajectory.next: final must hold {name}, got "
                f"{', '.join(self.final) or 'nothing'}. Make the trajectory with next_{name}"
            )
        following = self[name].roll(-1, 0)
        following[self.last.to(following.device)] = _tensor(self.final[name])
        return following

    def with_columns(self, **columns: Any) -> Trajectory:
        """This trajectory with columns added or replaced.

        Args:
            columns: For each name ``[N, ...]``.

        Raises:
            ValueError: A column does not have N rows.
        """
        merged = {**self.columns, **as_columns("Trajectory.with_columns", columns, None)}
        return Trajectory(merged, self.bounds, final=self.final, envs=self.envs)

    def without_columns(self, *names: str) -> Trajectory:
        """This trajectory without some columns, and without what followed them."""
        kept = {name: x for name, x in self.columns.items() if name not in names}
        final = {name: x for name, x in self.final.items() if name not in names}
        return Trajectory(kept, self.bounds, final=final, envs=self.envs)

    def rollout(self) -> dict[str, Tensor]:
        """Views ``[steps, envs, ...]`` of the columns.

        Raises:
            ValueError: The trajectory was not made of a whole rollout.
        """
        if self.envs is None:
            raise ValueError("Trajectory.rollout: envs must be known, got None")
        return {
            name: column.unflatten(0, (self.envs, -1)).transpose(0, 1)
            for name, column in self.columns.items()
            if isinstance(column, Tensor)
        }

    def select(self, segments: Tensor | Sequence[int]) -> Trajectory:
        """Some segments, in the order asked for.

        Raises:
            IndexError: There is no such segment.
        """
        chosen = torch.as_tensor(segments, dtype=torch.int64)
        low, high = (0, 0) if not chosen.numel() else map(int, chosen.aminmax())
        if chosen.numel() and (low < 0 or high >= self.segments):
            raise IndexError(
                f"Trajectory.select: segments must be in [0, {self.segments}), "
                f"got {low if low < 0 else high}"
            )
        lengths = self.lengths[chosen]
        bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        rows = torch.arange(int(bounds[-1])) - torch.repeat_interleave(bounds[:-1], lengths)
        rows += torch.repeat_interleave(self.bounds[chosen], lengths)
        return Trajectory(
            take_rows(self.columns, rows), bounds, final=take_rows(self.final, chosen)
        )

    def split(self, at: int | float) -> tuple[Trajectory, Trajectory]:
        """The first segments and the others, without a copy.

        Args:
            at: Number of segments, or the share of them as a float in [0, 1].

        Raises:
            ValueError: ``at`` is out of its range.
        """
        count = int(self.segments * at) if isinstance(at, float) else at
        if not 0 <= count <= self.segments:
            raise ValueError(f"Trajectory.split: at must be within {self.segments}, got {at}")
        return self._part(0, count), self._part(count, self.segments)

    def to(self, device: torch.device | str) -> Trajectory:
        """This trajectory with its columns on ``device``."""
        move = torch.device(device)

        def moved(columns: Mapping[str, Column]) -> dict[str, Column]:
            return {k: x if isinstance(x, list) else x.to(move) for k, x in columns.items()}

        return Trajectory(
            moved(self.columns), self.bounds, final=moved(self.final), envs=self.envs
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file of tensors and JSON (safetensors), whole or not at all.

        Raises:
            TypeError: A column of objects holds something that JSON does not know.
            OSError: The file cannot be written; an older one is then as it was.
        """
        tensors = {"bounds": self.bounds}
        lists: dict[str, list[Any]] = {}
        for group, columns in (("column", self.columns), ("final", self.final)):
            for name, column in columns.items():
                if isinstance(column, list):
                    lists[f"{group}:{name}"] = column
                else:
                    tensors[f"{group}:{name}"] = column
        names = {"columns": list(self.columns), "final": list(self.final)}
        content = {**names, "lists": lists, "envs": self.envs}
        tensor_file.save(path, tensors, content, kind="trajectory")

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: torch.device | str = "cpu"
    ) -> Trajectory:
        """Reads a file that ``save`` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is broken or holds something else.
        """
        tensors, content = tensor_file.load(path, kind="trajectory", device=device)
        found = {**tensors, **content["lists"]}
        return cls(
            {name: found[f"column:{name}"] for name in content["columns"]},
            tensors["bounds"].cpu(),
            final={name: found[f"final:{name}"] for name in content["final"]},
            envs=content["envs"],
        )

    def __repr__(self) -> str:
        shapes = (
            f"{name}=list" if isinstance(x, list) else f"{name}={list(x.shape[1:])}"
            for name, x in self.columns.items()
        )
        return f"Trajectory({len(self)} steps in {self.segments} segments: {', '.join(shapes)})"

    def _part(self, begin: int, end: int) -> Trajectory:
        bounds = self.bounds[begin : end + 1]
        first, last = int(bounds[0]), int(bounds[-1])
        return Trajectory(
            {name: column[first:last] for name, column in self.columns.items()},
            bounds - first,
            final={name: rows[begin:end] for name, rows in self.final.items()},
        )

    def _keep_what_does_not_follow(self) -> None:
        """Drops next_<name> where it is the next row; keeps what followed the segments."""
        for name, column in list(self.columns.items()):
            following = self.columns.get(f"next_{name}")
            if isinstance(following, Tensor) and isinstance(column, Tensor):
                last = self.last.to(following.device)
                self.final[name] = following[last]
                expected = column.roll(-1, 0)
                expected[last] = following[last]
                if torch.equal(expected, following):
                    del self.columns[f"next_{name}"]


def concat(trajectories: Iterable[Trajectory]) -> Trajectory:
    """One trajectory of the segments of many, one after another.

    Args:
        trajectories: With equal columns.

    Returns:
        The trajectory, in memory of its own if there is more than one.

    Raises:
        ValueError: There is none, or names or shapes differ.
        TypeError: Dtypes differ.
    """
    parts = list(trajectories)
    if not parts:
        raise ValueError("concat: trajectories must be at least 1, got 0")
    first, *others = parts
    if not others:
        return first
    for part in others:
        check_same_columns("concat", part.columns, first.columns)
        check_same_columns("concat", part.final, first.final)
    bounds = [first.bounds]
    for part in others:
        bounds.append(part.bounds[1:] + bounds[-1][-1])
    return Trajectory(
        _join([part.columns for part in parts]),
        torch.cat(bounds),
        final=_join([part.final for part in parts]),
    )


def _join(parts: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    joined: dict[str, Column] = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        if isinstance(columns[0], list):
            joined[name] = [row for column in columns for row in column]
        else:
            joined[name] = torch.cat([_tensor(column) for column in columns])
    return joined


def _one_episode(position: int, episode: Mapping[str, Any]) -> Trajectory:
    op = f"Trajectory.from_episodes: episode {position}"
    flat = _flatten(episode)
    flags = {name: flat.pop(name) for name in (*_ENDS, "terminal") if name in flat}
    columns = as_columns(op, flat, None)
    common = columns["reward"] if "reward" in columns else min(columns.values(), key=len)
    steps = len(common)
    if steps == 0:
        raise ValueError(f"{op} must have at least 1 step, got 0")
    final = {
        name: column[steps:] for name, column in columns.items() if len(column) == steps + 1
    }
    for name, value in flags.items():
        flag = torch.as_tensor(value, dtype=torch.bool)
        if not flag.dim():
            flag = torch.cat([torch.zeros(steps - 1, dtype=torch.bool), flag[None]])
        columns["terminated" if name == "terminal" else name] = flag
    rows = {
        name: column[:steps] if name in final else column for name, column in columns.items()
    }
    return Trajectory(rows, [0, steps], final=final)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _tensor(column: Column) -> Tensor:
    if isinstance(column, list):
        raise TypeError("Trajectory: the column must be a tensor, got a list")
    return column


def _ended(columns: Mapping[str, Column], n: int) -> Tensor:
    """``[n]`` bool, on the CPU: an episode ended with this step."""
    ended = torch.zeros(n, dtype=torch.bool)
    for name in _ENDS:
        if name in columns:
            flag = _tensor(columns[name])
            if flag.dtype != torch.bool:
                raise TypeError(f"Trajectory: {name} must be bool, got {flag.dtype}")
            if flag.shape != (n,):
                raise ValueError(
                    f"Trajectory: {name} must have shape [{n}], got {list(flag.shape)}"
                )
            ended |= flag.cpu()
    return ended


def _bounds(
    bounds: Tensor | Sequence[int] | None, ended: Tensor, n: int, envs: int | None
) -> Tensor:
    if envs is not None and (envs < 1 or n % envs):
        raise ValueError(f"Trajectory: envs must divide {n} rows, got {envs}")
    if bounds is None:
        cut = ended.clone()
        cut[-1:] = True
        return _bounds_behind(cut)
    found = torch.as_tensor(bounds, dtype=torch.int64).cpu()
    whole = found.dim() == 1 and found.numel() > 0 and found[0] == 0 and found[-1] == n
    if not whole or not (found.diff() > 0).all():
        raise ValueError(
            f"Trajectory: bounds must ascend from 0 to {n}, got {found.flatten().tolist()[:10]}"
        )
    return found


def _bounds_behind(cut: Tensor) -> Tensor:
    """Bounds of the segments that end with the rows where ``cut`` is True."""
    ends = cut.nonzero().squeeze(1) + 1
    return torch.cat([ends.new_zeros(1), ends])


def _grid_shape(grid: Mapping[str, Column]) -> tuple[int, int]:
    op = "Trajectory.from_rollout"
    if not grid:
        raise ValueError(f"{op}: columns must be at least 1, got 0")
    first = next(iter(grid))
    shape = list(_tensor(grid[first]).shape[:2])
    for name, column in grid.items():
        if len(shape) != 2 or list(_tensor(column).shape[:2]) != shape:
            raise ValueError(
                f"{op}: {name} must be [steps, envs, ...] like {first}, "
                f"got {list(_tensor(column).shape)}"
            )
    return shape[0], shape[1]


def _env_major(grid: Tensor) -> Tensor:
    """``[steps, envs, ...]`` as ``[envs * steps, ...]``."""
    return grid.transpose(0, 1).flatten(0, 1)

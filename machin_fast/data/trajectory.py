"""Trajectories: the steps of many episodes in flat columns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from machin_fast.data.assembly import (
    ENDS,
    bounds_behind,
    columns_of_transitions,
    device_of,
    ended_rows,
    parts_of_episode,
    parts_of_rollout,
    tensor_of,
)
from machin_fast.data.batch import RESERVED, Batch
from machin_fast.data.columns import (
    Column,
    as_columns,
    check_same_columns,
    common_length,
    take_rows,
)
from machin_fast.utils import tensor_file

_CPU = torch.device("cpu")


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
            All go where the first tensor is.
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
        device = device_of(columns)
        flat = as_columns("Trajectory", columns, device)
        ends = as_columns("Trajectory", final or {}, device)
        n = common_length("Trajectory", flat)
        _check_names("Trajectory", flat)
        self._take(flat, _bounds(bounds, ended_rows(flat, n), n, envs), ends, envs)
        for name, rows in ends.items():
            if name not in flat:
                raise ValueError(f"Trajectory: final must name columns, got {name}")
            if len(rows) != self.segments:
                raise ValueError(
                    f"Trajectory: final {name} must have {self.segments} rows, one a segment, "
                    f"got {len(rows)}"
                )
        self._examine(flat)

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
        return cls(columns_of_transitions(transitions, batched=batched))

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
        parts = [cls(**parts_of_episode(i, episode)) for i, episode in enumerate(episodes)]
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
            ValueError: Shapes differ, ``final`` names no column, or an episode is truncated within
                and nobody says what followed.
            TypeError: A column is a list, or dtypes are wrong.
        """
        return cls(**parts_of_rollout(columns, final, valid))

    def __len__(self) -> int:
        """Number of steps."""
        return int(self.bounds[-1])

    def __getitem__(self, name: str) -> Tensor:
        """The column ``name``, which must be a tensor."""
        return tensor_of(self.columns[name], name)

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
        following[self.last.to(following.device)] = tensor_of(self.final[name])
        return following

    def with_columns(self, **columns: Any) -> Trajectory:
        """This trajectory with columns added or replaced.

        Args:
            columns: For each name ``[N, ...]``.

        Raises:
            ValueError: A column does not have N rows.
        """
        new = as_columns("Trajectory.with_columns", columns, self.device)
        _check_names("Trajectory.with_columns", new)
        for name, column in new.items():
            if len(column) != len(self):
                raise ValueError(
                    f"Trajectory.with_columns: {name} must have {len(self)} rows, got {len(column)}"
                )
        made = self._of({**self.columns, **new}, self.bounds, self.final, self.envs)
        made._examine(new)
        return made

    def without_columns(self, *names: str) -> Trajectory:
        """This trajectory without some columns, and without what followed them."""
        gone = {*names, *(f"next_{name}" for name in names)}
        kept = {name: x for name, x in self.columns.items() if name not in gone}
        final = {name: x for name, x in self.final.items() if name not in gone}
        return self._of(kept, self.bounds, final, self.envs)

    def rollout(self) -> dict[str, Tensor]:
        """Views ``[steps, envs, ...]`` of the columns.

        Raises:
            ValueError: The trajectory was not made of a whole rollout.
        """
        if self.envs is None:
            raise ValueError("Trajectory.rollout: envs must be known, got None")
        return {
            name: column.unflatten(0, (self.envs, len(self) // self.envs)).transpose(0, 1)
            for name, column in self.columns.items()
            if isinstance(column, Tensor)
        }

    def select(self, segments: Tensor | Sequence[int]) -> Trajectory:
        """Some segments, in the order asked for.

        Raises:
            IndexError: There is no such segment.
            TypeError: They are no integers.
        """
        chosen = torch.as_tensor(segments).cpu()
        if chosen.numel() and (chosen.is_floating_point() or chosen.dtype == torch.bool):
            raise TypeError(f"Trajectory.select: segments must be integers, got {chosen.dtype}")
        chosen = chosen.long()
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
        return self._of(take_rows(self.columns, rows), bounds, take_rows(self.final, chosen))

    def split(self, at: int | float) -> tuple[Trajectory, Trajectory]:
        """The first segments and the others, without a copy.

        Args:
            at: Number of segments, or the share of them as a float in [0, 1].

        Raises:
            ValueError: ``at`` is out of its range.
        """
        most = 1.0 if isinstance(at, float) else self.segments
        if not 0 <= at <= most:
            raise ValueError(f"Trajectory.split: at must be in [0, {most}], got {at}")
        count = int(self.segments * at) if isinstance(at, float) else at
        return self._part(0, count), self._part(count, self.segments)

    def to(self, device: torch.device | str) -> Trajectory:
        """This trajectory with its columns on ``device``."""
        move = torch.device(device)

        def moved(columns: Mapping[str, Column]) -> dict[str, Column]:
            return {k: x if isinstance(x, list) else x.to(move) for k, x in columns.items()}

        return self._of(moved(self.columns), self.bounds, moved(self.final), self.envs)

    # -- as a source of rows, see windows.py ---------------------------------------------------

    @property
    def oldest(self) -> int:
        """Number of the first row, 0."""
        return 0

    def turn(self) -> AbstractContextManager[None]:
        """Nobody changes a trajectory, so there is nothing to wait for."""
        return nullcontext()

    def rows(self, index: Tensor) -> Batch:
        """Fetches given rows; what followed them, ``next_<name>``, when it is asked for.

        Args:
            index: int64 of any shape, in [0, N).

        Returns:
            The batch, columns ``[*index.shape, ...]``.

        Raises:
            RuntimeError: There is no such row.
        """
        index = index.to(self.device)
        flat = index.flatten()

        def shaped(column: Column) -> Column:
            if isinstance(column, list) or index.dim() == 1:
                return column
            return column.unflatten(0, index.shape)

        def following(name: str) -> Column:
            column, final = self[name], tensor_of(self.final[name])
            bounds = self.bounds.to(flat.device)
            segment = torch.searchsorted(bounds, flat, right=True) - 1
            last = (flat + 1 == bounds[segment + 1]).view(-1, *[1] * (column.dim() - 1))
            after = take_rows({name: column}, (flat + 1).clamp(max=len(self) - 1))
            behind = take_rows({name: final}, segment)
            return shaped(torch.where(last, tensor_of(behind[name]), tensor_of(after[name])))

        columns = {name: shaped(x) for name, x in take_rows(self.columns, flat).items()}
        more = {
            f"next_{name}": partial(following, name)
            for name in self.final
            if f"next_{name}" not in columns
        }
        return Batch(columns, index, None, more=more)

    def left(self, index: Tensor) -> Tensor:
        """Steps from each row to the end of its segment, itself included, like ``index``."""
        bounds = self.bounds.to(index.device)
        return bounds[torch.searchsorted(bounds, index, right=True)] - index

    def segment_starts(self) -> Tensor:
        """First row of each segment, ``[segments]``."""
        return self.bounds[:-1].to(self.device)

    def window_starts(self, length: int) -> Tensor:
        """The rows that a window of ``length`` steps may begin with, int64: those with so many
        steps left in their segment, and the first of each segment that is shorter."""
        left = torch.repeat_interleave(self.bounds[1:], self.lengths) - torch.arange(len(self))
        return ((left >= length) | (self.position == 0)).nonzero().squeeze(1).to(self.device)

    # -- files -------------------------------------------------------------------------------

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
        content: Any = {
            "columns": list(self.columns),
            "final": list(self.final),
            "lists": lists,
            "envs": self.envs,
        }
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
        loaded = tensor_file.load(path, kind="trajectory", device=device)
        tensors, content = loaded[0], cast("dict[str, Any]", loaded[1])
        found = {**tensors, **content["lists"]}
        return cls._of(
            {name: found[f"column:{name}"] for name in content["columns"]},
            tensors["bounds"].cpu(),
            {name: found[f"final:{name}"] for name in content["final"]},
            content["envs"],
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
        return self._of(
            {name: column[first:last] for name, column in self.columns.items()},
            bounds - first,
            {name: rows[begin:end] for name, rows in self.final.items()},
        )

    @classmethod
    def _of(
        cls,
        columns: Mapping[str, Column],
        bounds: Tensor,
        final: Mapping[str, Column],
        envs: int | None = None,
    ) -> Trajectory:
        """Of columns that are known to fit: nothing is checked, a list stays one."""
        made = cls.__new__(cls)
        made._take(columns, bounds, final, envs)
        return made

    def _take(
        self,
        columns: Mapping[str, Column],
        bounds: Tensor,
        final: Mapping[str, Column],
        envs: int | None,
    ) -> None:
        self.columns = {name: _dense(x) for name, x in columns.items()}
        self.bounds = bounds
        self.final = {name: _dense(x) for name, x in final.items()}
        self.envs = envs

    def _examine(self, new: Mapping[str, Column]) -> None:
        """Checks columns that were given, and finds out what followed them."""
        if any(name in new for name in ENDS):
            self._check_ends()
        for name in list(self.columns):
            if name in new or f"next_{name}" in new:
                self._keep_what_does_not_follow(name)
            if name in new and name in self.final:
                label = f"final {name}"
                check_same_columns(
                    "Trajectory", {label: self.final[name]}, {label: self.columns[name]}
                )

    def _check_ends(self) -> None:
        inside = ended_rows(self.columns, len(self))
        inside[self.last] = False
        if inside.any():
            raise ValueError(
                "Trajectory: bounds must end a segment where an episode ends, got none "
                f"behind row {int(inside.int().argmax())}"
            )

    def _keep_what_does_not_follow(self, name: str) -> None:
        """Drops next_<name> where it is the next row; keeps what followed the segments."""
        column, following = self.columns.get(name), self.columns.get(f"next_{name}")
        if isinstance(following, Tensor) and isinstance(column, Tensor):
            label = f"next_{name}"
            check_same_columns("Trajectory", {label: following}, {label: column})
            last = self.last.to(following.device)
            self.final[name] = following[last]
            expected = column.roll(-1, 0)
            expected[last] = following[last]
            if torch.equal(expected, following):
                del self.columns[label]


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
        check_same_columns("concat: final", part.final, first.final)
    # What followed the steps is a column of some, and the next row anyway of others.
    own = {name for part in parts for name in part.final if f"next_{name}" in part}
    columns = [
        {**part.columns, **{f"next_{name}": part.next(name) for name in own}} for part in parts
    ]
    for each in columns[1:]:
        check_same_columns("concat", each, columns[0])
    lengths = torch.cat([part.lengths for part in parts])
    bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Trajectory._of(_join(columns), bounds, _join([part.final for part in parts]))


def _join(parts: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    joined: dict[str, Column] = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        if isinstance(columns[0], list):
            joined[name] = [row for column in columns for row in column]
        else:
            joined[name] = torch.cat([tensor_of(column) for column in columns])
    return joined


def _check_names(op: str, names: Iterable[str]) -> None:
    for name in names:
        if name in RESERVED:
            raise ValueError(f"{op}: {name} must not be a column, batches have their own")


def _dense(column: Column) -> Column:
    """With rows without gaps inside, as gathers need them; they may lie apart."""
    if isinstance(column, list) or column[:1].is_contiguous():
        return column
    return column.contiguous()


def _bounds(
    bounds: Tensor | Sequence[int] | None, ended: Tensor, n: int, envs: int | None
) -> Tensor:
    if envs is not None and (envs < 1 or n % envs):
        raise ValueError(f"Trajectory: envs must divide {n} rows, got {envs}")
    if bounds is None:
        cut = ended.clone()
        cut[-1:] = True
        return bounds_behind(cut)
    given = torch.as_tensor(bounds).cpu()
    found = given.long()
    whole = found.dim() == 1 and found.numel() > 0 and found[0] == 0 and found[-1] == n
    if given.is_floating_point() or not whole or not (found.diff() > 0).all():
        raise ValueError(
            f"Trajectory: bounds must ascend from 0 to {n}, got {given.flatten().tolist()[:10]}"
        )
    return found

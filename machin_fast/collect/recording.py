"""What environments did, written down step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from machin_fast.collect.acting import Choice, as_tensor
from machin_fast.collect.environments import Rows, Step
from machin_fast.data import Trajectory
from machin_fast.data.columns import Column, take_rows


class Memory:
    """Arrays of earlier recordings, for those that come when nobody else has them any more.

    Fresh memory takes a page fault for every 4 KiB: with images as long as copying them.
    """

    def __init__(self) -> None:
        # Of each name arrays, and what was handed out of them: a tensor of it keeps that alive.
        self._arrays: dict[str, list[tuple[NDArray[Any], ref[NDArray[Any]]]]] = {}

    def room(self, name: str, like: Rows, envs: int, steps: int) -> Rows:
        """Room for rows of this kind, ``[envs, steps, ...]``."""
        shape = (envs, steps, *like.shape[1:])
        if isinstance(like, Tensor):
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        dtype = like.dtype
        known = self._arrays.get(name, [])
        fits = (x for x, used in known if used() is None and x.shape == shape and x.dtype == dtype)
        array = next(fits, None)
        if array is None:
            array = np.empty(shape, dtype)
        handed_out = array.view()
        others = [pair for pair in known if pair[0] is not array]
        self._arrays[name] = [(array, ref(handed_out)), *others[:1]]
        return handed_out


class Recording:
    """Columns ``[envs, steps, ...]``, and what followed the last steps of episodes.

    Args:
        num_envs: Number of environments.
        steps: To have room for; it grows when there are more.
        memory: Where the room comes from.
    """

    def __init__(self, num_envs: int, steps: int, memory: Memory) -> None:
        self._memory = memory
        self._columns: dict[str, Any] = {}
        self._counts = np.zeros((num_envs, steps), dtype=bool)
        self._steps = 0
        # Of each step that ended episodes: where these are in [envs, steps], and what was last.
        self._ends: list[tuple[NDArray[np.int64], int]] = []
        self._final: list[dict[str, Rows]] = []
        self._observed: tuple[str, ...] = ()

    def observe(self, observation: Mapping[str, Rows], choice: Choice) -> None:
        """Writes down the first half of a step, before the environments use their memory again.

        Args:
            observation: What was observed, ``[envs, ...]`` by name.
            choice: What was chosen.
        """
        if self._steps == self._counts.shape[1]:
            self._grow()
        self._observed = tuple(observation)
        self._write(observation)
        self._write({"action": choice.action, **choice.kept})

    def complete(self, step: Step, counts: NDArray[np.bool_]) -> None:
        """Writes down what came of it.

        Args:
            step: What the environments did.
            counts: ``[envs]``, bool: whose rows shall be in the trajectory.
        """
        self._write(
            {"reward": step.reward, "terminated": step.terminated, "truncated": step.truncated}
        )
        self._counts[:, self._steps] = counts
        if step.lost.size and self._steps:
            self._cut(step.lost)
        if step.ended.size and (chosen := counts[step.ended]).any():
            self._ends.append((step.ended[chosen], self._steps))
            self._final.append({name: rows[chosen] for name, rows in step.final.items()})
        self._steps += 1

    def trajectory(self, observation: Mapping[str, Rows]) -> Trajectory:
        """All that was written down.

        Args:
            observation: What followed the last step.

        Returns:
            The trajectory. Where all rows count, its columns are views of this recording.
        """
        (envs, room), last = self._counts.shape, self._steps - 1
        unfinished = self._counts[:, last].copy()
        if self._ends and self._ends[-1][1] == last:
            unfinished[self._ends[-1][0]] = False
        now = {name: rows[unfinished] for name, rows in observation.items()}
        final = [*self._final, now]
        ends = [*self._ends, (np.flatnonzero(unfinished), last)]

        # An actor elsewhere may have returned some of these there: all go where the first is.
        device = _flat(next(iter(self._columns.values()))).device
        flat: dict[str, Column] = {name: _flat(x).to(device) for name, x in self._columns.items()}
        row = np.concatenate([env * room + t for env, t in ends])  # that a segment ends with
        order = np.argsort(row)
        row = row[order]
        counts = self._counts.ravel()
        whole = bool(counts.all())
        if not whole:
            flat = take_rows(flat, torch.from_numpy(np.flatnonzero(counts)))
            row = counts.cumsum()[row] - 1
        return Trajectory(
            flat,
            torch.from_numpy(np.concatenate([[0], row + 1])),
            final={
                name: torch.cat([as_tensor(each[name]) for each in final])[torch.from_numpy(order)]
                for name in observation
            },
            envs=envs if whole else None,
        )

    def _write(self, rows: Mapping[str, Rows]) -> None:
        columns, t = self._columns, self._steps
        for name, x in rows.items():
            column: Any = columns.get(name)
            if column is None:
                column = columns[name] = self._room(name, x)
            if type(column) is np.ndarray and isinstance(x, Tensor):
                x = x.numpy()
            column[:, t] = x

    def _room(self, name: str, rows: Rows) -> Rows:
        """Room for rows like these: an array where that can be, as numpy writes a step into it in
        a seventh of torch's time."""
        if isinstance(rows, Tensor):
            if rows.device.type == "cpu" and rows.dtype is not torch.bfloat16:
                rows = rows.numpy()
        else:  # of environments
            rows = as_tensor(rows[:1]).numpy()
        return self._memory.room(name, rows, *self._counts.shape)

    def _cut(self, lost: NDArray[np.int64]) -> None:
        """Ends the segments of environments before this step, which they did not take."""
        before = self._steps - 1
        over = self._columns["terminated"][lost, before] | self._columns["truncated"][lost, before]
        cut = lost[self._counts[lost, before] & ~over]
        self._ends.append((cut, before))
        self._final.append({name: self._columns[name][cut, before + 1] for name in self._observed})

    def _grow(self) -> None:
        """Doubles the room."""
        room = self._counts.shape[1]
        self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)], 1)
        for name, old in self._columns.items():
            self._columns[name] = self._memory.room(name, old[:, 0], *self._counts.shape)
            self._columns[name][:, :room] = old


def _flat(column: Rows) -> Tensor:
    """``[envs * steps, ...]``, without a copy."""
    found = column if isinstance(column, Tensor) else torch.from_numpy(column)
    return found.flatten(0, 1)

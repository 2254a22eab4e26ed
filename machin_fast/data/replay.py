"""Replay memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from machin_fast._extension import direct_calls
from machin_fast.data import replay_state
from machin_fast.data.batch import RESERVED, Batch, full_weight
from machin_fast.data.columns import (
    Column,
    Memory,
    as_columns,
    check_same_columns,
    common_length,
)
from machin_fast.data.counters import APPENDED, OLDEST, Counters
from machin_fast.data.direct_replay import DirectReplay
from machin_fast.data.draws import uniform_rows
from machin_fast.data.frames import Frames
from machin_fast.data.priorities import Priorities, check_priority
from machin_fast.data.table import Table
from machin_fast.data.trajectory import Trajectory
from machin_fast.data.windows import fetch_windows

# Columns that no batch shows.
_LEFT = "_left"  # steps from a row to the end of its segment, itself included
_NEED = "_need"  # number of the oldest frame that a row, or one of an earlier row, needs


class Replay:
    """A ring of transitions, drawn from uniformly or in proportion to priorities.

    ``append`` takes batches of transitions or whole trajectories, and creates the columns from
    what it is first given. When the ring is full, new rows take the place of the oldest.
    Importance weights are divided by the largest possible one, that of the least likely row in
    the memory, so they are the same whatever else is in the batch.

    The memory of a batch that ``sample`` returns is used again by the ``batches``-th call after
    it: clone what must live longer. (On CUDA, with ``frames`` and with columns of objects, each
    batch has memory of its own.)

    With the same seed and the same calls, the same rows are drawn, bit for bit, on every device.

    Sources: Schaul et al. 2016, arXiv:1511.05952, proportional variant, algorithm 1; windows:
    Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement Learning".

    Args:
        capacity: Most rows to hold.
        device: Where the columns and priorities live.
        priority: "step" draws each row in proportion to its priority, "window" each window of
            ``window`` steps; None draws uniformly.
        window: Steps of the windows that ``sample_windows`` draws. A segment that is shorter is a
            window by itself.
        evict: "step" lets the oldest rows go one by one, "segment" by whole segments, which are
            kept only so. None: "segment" with ``window``, else "step".
        frames: Columns whose rows repeat each other, in order of time, such as
            ("state", "next_state") of images: each distinct frame is stored once. A batch that is
            appended must then be one step of several environments, the next batch their next
            step. Episodes of less than about 50 steps need so many frames that the oldest rows
            leave before ``capacity`` is reached.
        stack: A row of ``frames`` is this many frames, ``[stack, ...]``, oldest first; 1: one.
        alpha: Exponent of priorities, at least 0; 0 draws uniformly.
        beta: Exponent of importance weights, in [0, 1].
        beta_steps: Draws over which ``beta`` grows to 1. None: it stays.
        epsilon: Added to each priority, so that a row with priority 0 is still drawn at times. If
            it is 0, such a row is not drawn, unless all are 0: then all are alike.
        seed: Of the draws. None: from torch's default generator.
        batches: Number of batches that are in memory at once, at least 1.
        memory: Of the CPU: "plain", or "pinned" for fast copies to a GPU. See ``SharedReplay``
            for memory that processes share.

    Attributes:
        capacity, device, priority, window, evict: As given.
        beta, beta_steps: As given; may be changed at any time.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: A number is no int.
    """

    def __init__(
        self,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        priority: Literal["step", "window"] | None = None,
        window: int | None = None,
        evict: Literal["step", "segment"] | None = None,
        frames: Sequence[str] = (),
        stack: int = 1,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_steps: int | None = None,
        epsilon: float = 1e-6,
        seed: int | None = None,
        batches: int = 2,
        memory: Memory = "plain",
    ) -> None:
        for name, count in (
            ("capacity", capacity), ("batches", batches), ("stack", stack),
            ("window", window), ("beta_steps", beta_steps),
        ):  # fmt: skip
            if count is not None or name in ("capacity", "batches", "stack"):
                _check_count(name, count)
        _check_not_negative("alpha", alpha)
        _check_not_negative("epsilon", epsilon)
        _check_one_of("priority", priority, (None, "step", "window"))
        _check_one_of("evict", evict, (None, "step", "segment"))
        _check_one_of("memory", memory, ("plain", "pinned", "shared"))
        if priority == "window" and window is None:
            raise ValueError("Replay: window must be given with priority='window', got None")
        if window is not None and (priority == "step" or window > capacity):
            raise ValueError(
                "Replay: window must be at most the capacity, and not go with priority='step', "
                f"got {window}"
            )
        if window is not None and evict == "step":
            raise ValueError("Replay: evict must be 'segment' with a window, got 'step'")
        self.capacity = capacity
        self.device = torch.device(device)
        self.priority = priority
        self.window = window
        self.evict = evict or ("step" if window is None else "segment")
        self.beta = beta
        self.beta_steps = beta_steps
        self._counters = Counters(int(torch.randint(2**63 - 1, ())) if seed is None else seed)
        self._table = Table(capacity, self.device, memory=memory)
        self._frames = Frames(frames, stack, capacity, self.device, memory) if frames else None
        # Windows that are drawn uniformly have priorities, too: 1 where one may begin, else 0.
        self._priorities = (
            Priorities(
                capacity, self.device, alpha=alpha, epsilon=epsilon, zero_stays=window is not None
            )
            if priority or window
            else None
        )
        self._keeps_segments = self.evict == "segment"
        self._batches = batches
        self._direct: DirectReplay | None = None

    # -- what is in it -------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of rows in the memory."""
        return self._counters.appended - self._counters.oldest

    @property
    def appended(self) -> int:
        """Number of rows ever appended. Rows are numbered from 0 in that order."""
        return self._counters.appended

    @property
    def oldest(self) -> int:
        """Number of the oldest row in the memory."""
        return self._counters.oldest

    @property
    def alpha(self) -> float:
        """Exponent of priorities; a change holds for those that come then."""
        return self._tree("alpha").alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        _check_not_negative("alpha", alpha)
        self._tree("alpha").alpha = alpha
        self._prepare()

    @property
    def epsilon(self) -> float:
        """Added to each priority; a change holds for those that come then."""
        return self._tree("epsilon").epsilon

    @epsilon.setter
    def epsilon(self, epsilon: float) -> None:
        _check_not_negative("epsilon", epsilon)
        self._tree("epsilon").epsilon = epsilon
        self._prepare()

    @property
    def beta(self) -> float:
        """Exponent of importance weights at first."""
        return self._beta

    @beta.setter
    def beta(self, beta: float) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"Replay: beta must be in [0, 1], got {beta}")
        self._beta = beta

    @property
    def max_priority(self) -> float:
        """Largest priority ever set, before ``alpha``; new rows enter with it."""
        return self._tree("max_priority").largest.item()

    @property
    def stale_updates(self) -> int:
        """Rows that ``update_priority`` skipped, as others had taken their place."""
        return self._counters.stale

    @property
    def current_beta(self) -> float:
        """``beta`` as it has grown by now."""
        if self.beta_steps is None:
            return self.beta
        return self.beta + (1 - self.beta) * min(1.0, self._counters.draws / self.beta_steps)

    @property
    def columns(self) -> dict[str, Column]:
        """For each name the slots in use, ``[min(appended, capacity), ...]``, row r at slot
        ``r % capacity``. Views of the memory; columns of ``frames`` are numbers of frames."""
        used = min(self.appended, self.capacity)
        return {name: x[:used] for name, x in self._table.columns.items() if _is_shown(name)}

    def nbytes(self) -> int:
        """Bytes of the columns' memory, frames included, priorities not."""
        return self._table.nbytes() + (self._frames.nbytes() if self._frames else 0)

    # -- adding --------------------------------------------------------------------------------

    def append(self, trajectory: Trajectory | None = None, /, **columns: Any) -> None:
        """Adds rows. They are copied.

        A column ``priority``, ``[n]`` finite and not negative, is not stored where there are
        priorities: rows (or the windows that they begin) enter with it instead of the largest
        priority so far.

        Args:
            trajectory: Its segments are kept, and what followed each step is stored as
                ``next_<name>`` where ``final`` knows it.
            columns: Instead of it, for each name ``[n, ...]``, a tensor or array of any device, a
                list, or a mapping of such; n is the same for all. Where segments are kept the
                rows are one segment. Of more rows than ``capacity``, the last ones stay.

        Raises:
            ValueError: Names or shapes are not those of the first call, lengths differ, or a
                segment is longer than ``capacity`` where segments are kept; then nothing is
                changed.
            TypeError: Something is no tensor, array or list, or of another dtype than at first;
                then nothing is changed.
            RuntimeError: A tensor shares memory with this replay; then nothing is changed.
        """
        direct = self._direct
        if direct is not None and trajectory is None and direct.append(columns):
            return  # never where segments are kept: that adds a column
        rows, bounds = self._to_rows(trajectory, columns)
        given = rows.pop("priority", None) if self.priority else None
        n = common_length("Replay.append", rows)
        priority = None if given is None else self._to_priority(given, n)
        if bounds is None and self._keeps_segments:
            bounds = torch.tensor([0, n] if n else [0])
        skipped = self._rows_to_skip(n, bounds)
        if skipped:
            rows = {name: column[skipped:] for name, column in rows.items()}
            bounds = None if bounds is None else (bounds - skipped).clamp(min=0).unique()
            priority = None if priority is None else priority[skipped:]
            n -= skipped
        left = None
        if bounds is not None and self._keeps_segments:
            left = _steps_left(bounds, self.device)
        mass = self._new_mass(n, priority, left)
        stored = self._encoded(rows, bounds, n)
        if left is not None:
            stored[_LEFT] = left
        self._store(stored, mass, skipped, n)
        if self._priorities is not None and priority is not None:
            self._priorities.raise_largest(max(priority.tolist(), default=0.0))

    def _to_rows(
        self, trajectory: Trajectory | None, given: Mapping[str, Any]
    ) -> tuple[dict[str, Column], Tensor | None]:
        bounds = None
        if trajectory is not None:
            if not isinstance(trajectory, Trajectory) or given:
                raise TypeError(
                    "Replay.append: trajectory must be a Trajectory and stand alone, got "
                    f"{type(trajectory).__name__}{' and ' if given else ''}{', '.join(given)}. "
                    "Give columns by name, or add them by trajectory.with_columns"
                )
            given = dict(trajectory.columns)
            given.update({f"next_{name}": trajectory.next(name) for name in trajectory.final})
            bounds = trajectory.bounds
        rows = as_columns("Replay.append", given, self.device, lists=self._table.lists)
        for name in rows:
            if name in RESERVED or not _is_shown(name):
                raise ValueError(
                    f"Replay.append: {name} must not be a column, batches have their own"
                )
        return rows, bounds

    def _to_priority(self, priority: Column, n: int) -> Tensor:
        priority = torch.as_tensor(priority)
        if not priority.is_floating_point():
            raise TypeError(f"Replay.append: priority must be floating point, got {priority.dtype}")
        if priority.shape != (n,):
            raise ValueError(
                f"Replay.append: priority must have shape [{n}], got {list(priority.shape)}"
            )
        check_priority("Replay.append", priority)
        return priority

    def _rows_to_skip(self, n: int, bounds: Tensor | None) -> int:
        """How many of n new rows would be gone again after the last."""
        if not self._keeps_segments or bounds is None or not n:
            return max(0, n - self.capacity)
        longest = int(bounds.diff().max())
        if longest > self.capacity:
            raise ValueError(
                f"Replay.append: a segment must have at most {self.capacity} rows, got {longest}. "
                "Make the replay with a larger capacity"
            )
        return int(bounds[bounds >= n - self.capacity][0])

    def _new_mass(self, n: int, priority: Tensor | None, left: Tensor | None) -> Tensor | None:
        """What new rows weigh in the tree."""
        tree = self._priorities
        if tree is None:
            return None
        if not self.priority:
            mass = torch.ones(n, device=self.device)
        elif priority is None:
            mass = tree.mass(tree.largest.to(self.device).expand(n))
        else:
            mass = tree.mass(priority)
        if self.window is not None and left is not None:
            mass[~_begins_window(left, self.window)] = 0
        return mass

    def _encoded(self, rows: dict[str, Column], bounds: Tensor | None, n: int) -> dict[str, Column]:
        """Checked rows as the table holds them: with frames, numbers in their place."""
        frames = self._frames
        if frames is None:
            self._check_columns(rows)
            return rows
        for name in frames.names:
            if name not in rows:
                raise ValueError(f"Replay.append: columns must have {name}, got {', '.join(rows)}")
        number = torch.empty(n, frames.stack, dtype=torch.int64, device=self.device)
        numbers, need = dict.fromkeys(frames.names, number), number[:, 0]
        self._check_columns({**rows, **numbers})
        if n:
            numbers, need = frames.encode(rows, bounds)
        return {**rows, **numbers, _NEED: need}

    def _check_columns(self, rows: Mapping[str, Column]) -> None:
        shown = {name: x for name, x in self._table.columns.items() if _is_shown(name)}
        if shown:
            check_same_columns("Replay.append", rows, shown)

    def _store(self, rows: Mapping[str, Column], mass: Tensor | None, skipped: int, n: int) -> None:
        counters = self._counters
        first = counters.appended + skipped
        oldest = max(counters.oldest, first + n - self.capacity, first if skipped else 0)
        if self.evict == "segment":
            oldest = self._whole_segment_from(oldest)
        if not self._table.columns:
            self._table.create(rows)
            self._direct = self._new_direct()
        self._table.write(rows, first % self.capacity)
        before = counters.oldest
        counters.appended, counters.oldest = first + n, oldest
        if self._frames is not None:
            self._frames.write()
            counters.oldest = self._first_with_frames(self._frames.oldest)
        if self._priorities is not None and mass is not None:
            self._priorities.set(first, mass)
            # Of rows that left, those whose slot no new row has taken.
            overwritten = max(before, counters.appended - self.capacity)
            self._priorities.clear(overwritten, counters.oldest)

    def _whole_segment_from(self, row: int) -> int:
        """The first segment that is whole if rows before ``row`` are gone."""
        if not self.oldest < row < self.appended:
            return row
        before, here = self._left_of(torch.tensor([row - 1, row])).tolist()
        return row if before == 1 else row + here

    def _first_with_frames(self, frame: int) -> int:
        """The oldest row that needs no frame before ``frame``."""
        oldest, some = self.oldest, 1024
        need = self._table.tensors[_NEED]
        while frame and oldest < self.appended:  # few rows leave at a time; their needs ascend
            rows = torch.arange(oldest, min(oldest + some, self.appended), device=self.device)
            gone = int((need[rows % self.capacity] < frame).sum())
            oldest += gone
            if gone < rows.numel():
                break
        return self._whole_segment_from(oldest) if self.evict == "segment" else oldest

    # -- drawing -------------------------------------------------------------------------------

    def sample(self, n: int) -> Batch:
        """Draws rows, with replacement.

        Prioritized draws are stratified: the i-th comes from the i-th of n equal parts of all
        priorities.

        Args:
            n: Number of rows, at least 1.

        Returns:
            The batch; its memory is used again (see the class).

        Raises:
            ValueError: ``n`` is less than 1, the memory is empty, or the replay draws windows.
        """
        direct, words = self._direct, self._counters.words
        if direct is None or n != direct.batch_size or words[APPENDED] == words[OLDEST]:
            self._check_draw("sample", n)
            if self.window is not None:
                raise ValueError(
                    f"Replay.sample: window must be None, got {self.window}. Use sample_windows"
                )
        if direct is not None and not self._nothing_weighs():
            return direct.sample(n, self._beta if self.beta_steps is None else self.current_beta)
        if self._priorities is not None:
            return self._fetch(*self.draw(n))
        counters = self._counters
        index = uniform_rows(
            counters.seed, counters.draws, n, counters.oldest, counters.appended, self.device
        )
        counters.draws += 1
        return self._fetch(index)

    def sample_windows(self, n: int, *, burn_in: int = 0) -> Batch:
        """Draws windows of ``window`` steps, with replacement, stratified.

        Args:
            n: Number of windows, at least 1.
            burn_in: Their first steps that only warm up a recurrent state, in [0, window).

        Returns:
            The batch, ``[window, n, ...]``, in memory of its own. ``mask`` is False behind the
            end of a segment that is shorter.

        Raises:
            ValueError: An argument is out of its range, the memory is empty, or the replay has no
                ``window``.
        """
        window = self._window("sample_windows")
        self._check_draw("sample_windows", n)
        if not 0 <= burn_in < window:
            raise ValueError(
                f"Replay.sample_windows: burn_in must be in [0, {window}), got {burn_in}"
            )
        start, weight = self.draw(n)
        return self.windows(start, weight=weight if self.priority else None, burn_in=burn_in)

    def windows(self, start: Tensor, *, weight: Tensor | None = None, burn_in: int = 0) -> Batch:
        """Fetches given windows, as ``sample_windows`` does.

        Args:
            start: ``[n]``, int64, numbers of their first rows.
            weight: ``[n]``, of the batch. None: ones.
            burn_in: Of the batch.

        Returns:
            The batch, ``[window, n, ...]``, in memory of its own.

        Raises:
            IndexError: A row has left the memory, or never was in it.
            ValueError: The replay has no ``window``.
        """
        return fetch_windows(
            self,
            start,
            self._window("windows"),
            weight=weight,
            burn_in=burn_in,
            update_priority=self.update_priority if self.priority else None,
        )

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Chooses rows, or where windows begin, by their priorities.

        Args:
            n: How many, at least 1.

        Returns:
            ``[n]``, numbers of rows, int64, and importance weights, float32.

        Raises:
            ValueError: ``n`` is less than 1, the memory is empty, or has neither priorities nor a
                ``window``.
        """
        self._check_draw("draw", n)
        tree, counters = self._priorities, self._counters
        if tree is None:
            raise ValueError(
                "Replay.draw: the replay must have priorities, got none. Use plans.uniform"
            )
        if self._nothing_weighs():
            return self._draw_alike(n)
        slot, mass = tree.draw(n, counters.seed, counters.draws)
        weight = tree.weight(mass, self.current_beta)
        counters.draws += 1
        first = counters.appended - self.capacity  # the row whose slot is overwritten next
        return first + (slot - first) % self.capacity, weight

    def _nothing_weighs(self) -> bool:
        """Whether all priorities are 0, and epsilon, too."""
        tree = self._priorities
        return tree is not None and tree.epsilon == 0 and tree.total() == 0

    def _draw_alike(self, n: int) -> tuple[Tensor, Tensor]:
        """As ``draw``, uniformly."""
        counters = self._counters
        if self.window is None:
            rows = torch.arange(self.oldest, self.appended, device=self.device)
        else:
            rows = self.window_starts(self.window)
        place = uniform_rows(counters.seed, counters.draws, n, 0, rows.shape[0], self.device)
        counters.draws += 1
        return rows[place], full_weight(place)

    def masses(self) -> Tensor:
        """What the rows weigh in the draws, ``[len(self)]`` float32, oldest first, a copy.

        Raises:
            ValueError: The replay has no priorities.
        """
        rows = torch.arange(self.oldest, self.appended, device=self.device)
        return self._tree("masses").leaves[rows % self.capacity]

    def rows(self, index: Tensor) -> Batch:
        """Fetches given rows.

        Args:
            index: Numbers of rows, int64 of any shape.

        Returns:
            The batch, columns ``[*index.shape, ...]``, in memory of its own.

        Raises:
            IndexError: A row has left the memory, or never was in it.
        """
        index = self._alive("rows", index)
        return self._fetch(index)

    def left(self, index: Tensor) -> Tensor:
        """Steps from each row to the end of its segment, itself included.

        Args:
            index: Numbers of rows, int64 of any shape.

        Returns:
            Like ``index``.

        Raises:
            IndexError: A row has left the memory, or never was in it.
            ValueError: The replay keeps no segments.
        """
        self._check_segments("left")
        return self._left_of(self._alive("left", index))

    def segment_starts(self) -> Tensor:
        """The first rows of all segments, int64, in O(N).

        Raises:
            ValueError: The replay keeps no segments.
        """
        self._check_segments("segment_starts")
        return _begins_segment(self._all_left()).nonzero().squeeze(1) + self.oldest

    def window_starts(self, length: int) -> Tensor:
        """The rows that a window of ``length`` steps may begin with, int64, in O(N).

        Raises:
            ValueError: The replay keeps no segments.
        """
        self._check_segments("window_starts")
        return _begins_window(self._all_left(), length).nonzero().squeeze(1) + self.oldest

    def _fetch(self, index: Tensor, weight: Tensor | None = None) -> Batch:
        found = self._table.read(index.flatten() % self.capacity)
        if self._frames is not None:
            for name in self._frames.names:
                number = found[name]
                assert isinstance(number, Tensor)
                found[name] = self._frames.decode(number)
        columns: dict[str, Column] = {}
        for name, column in found.items():
            if _is_shown(name):
                columns[name] = (
                    column if isinstance(column, list) else column.unflatten(0, index.shape)
                )
        return Batch(
            columns,
            index,
            weight,
            update_priority=self.update_priority if self.priority == "step" else None,
        )

    # -- priorities ----------------------------------------------------------------------------

    def update_priority(self, index: Tensor, priority: Tensor) -> None:
        """Sets priorities, most often the sizes of temporal-difference errors.

        Rows that were overwritten since they were drawn are skipped, and counted in
        ``stale_updates``. On CUDA this waits for the device.

        Args:
            index: ``[n]``, int64, from ``batch.index``. Of a row that comes twice the last
                priority stays.
            priority: ``[n]``, floating point, finite and not negative. ``alpha`` is applied here.

        Raises:
            ValueError: Shapes differ, a priority is NaN, infinite or negative, or the replay was
                made without priorities; then nothing is changed.
            TypeError: A dtype is not as listed above; then nothing is changed.
            IndexError: There never was such a row; then nothing is changed.
            RuntimeError: A priority is too large for sums of float32; then nothing is changed.
        """
        counters = self._counters
        tree = self._tree("update_priority")
        stale = tree.update(index, priority, counters.oldest, counters.appended)
        if stale:
            counters.stale += stale

    # -- the whole of it -----------------------------------------------------------------------

    def clear(self) -> None:
        """Forgets all rows and their priorities; seed and draws go on."""
        if self._priorities is not None:
            self._priorities.nodes.zero_()
            self._priorities.largest.fill_(1.0)
        if self._frames is not None:
            self._frames.clear()
        self._counters.oldest = self._counters.appended

    def state_dict(self) -> dict[str, Any]:
        """All that is in the memory and where its draws stand, as tensors, numbers, lists and
        dicts of them. Tensors are copies."""
        return replay_state.take(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave: the next draws are those of that replay.

        Raises:
            ValueError: It was made by a replay of other settings; then nothing is changed.
        """
        replay_state.put(self, state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file of tensors and JSON (safetensors), whole or not at all.

        Raises:
            TypeError: A column of objects holds something that JSON does not know.
            OSError: The file cannot be written; an older one is then as it was.
        """
        replay_state.save(self, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Takes over what another replay of the same settings saved.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is broken, or of a replay of other settings.
        """
        replay_state.load(self, path)

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_direct": None}
        if self._table.memory != "shared":  # else whoever is sent a replay would share these
            for name in ("_counters", "_priorities", "_frames"):
                state[name] = copy.deepcopy(state[name])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._direct = self._new_direct()

    # -- help ----------------------------------------------------------------------------------

    def _new_direct(self) -> DirectReplay | None:
        plain = self._frames is None and not self._table.lists and self.window is None
        if not (plain and direct_calls and self.device.type == "cpu" and self._table.tensors):
            return None
        return DirectReplay(
            self._table,
            [name for name in self._table.columns if _is_shown(name)],
            self._counters,
            self._priorities,
            self._batches,
            self.update_priority if self.priority else None,
        )

    def _prepare(self) -> None:
        if self._direct is not None:
            self._direct.prepare()

    def turn(self) -> AbstractContextManager[None]:
        """While it is held, nobody else changes anything; see ``SharedReplay``."""
        return nullcontext()

    def _window(self, op: str) -> int:
        if self.window is None:
            raise ValueError(
                f"Replay.{op}: window must be given to Replay, got None. "
                "Make it with Replay(..., window=...)"
            )
        return self.window

    def _tree(self, what: str) -> Priorities:
        if self._priorities is None or self.priority is None:
            raise ValueError(
                f"Replay.{what}: the replay must have priorities, got none. "
                "Make it with Replay(..., priority='step')"
            )
        return self._priorities

    def _left_of(self, index: Tensor) -> Tensor:
        return self._table.tensors[_LEFT][(index % self.capacity).to(self.device)].long()

    def _all_left(self) -> Tensor:
        """``_left`` of all rows, oldest first."""
        if not len(self):
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        return self._left_of(torch.arange(self.oldest, self.appended, device=self.device))

    def _alive(self, op: str, index: Tensor) -> Tensor:
        index = index.to(self.device)
        if index.numel():
            low, high = map(int, index.aminmax())
            if low < self.oldest or high >= self.appended:
                wrong = low if low < self.oldest else high
                raise IndexError(
                    f"Replay.{op}: index must be in [{self.oldest}, {self.appended}), got {wrong}"
                )
        return index

    def _check_draw(self, op: str, n: int) -> None:
        if n < 1:
            raise ValueError(f"Replay.{op}: n must be at least 1, got {n}")
        if not len(self):
            raise ValueError(f"Replay.{op}: the memory must hold at least 1 row, got 0")

    def _check_segments(self, op: str) -> None:
        if not self._keeps_segments:
            raise ValueError(
                f"Replay.{op}: the replay must keep segments, got evict='step'. "
                "Make it with Replay(..., evict='segment')"
            )


def _is_shown(name: str) -> bool:
    return not name.startswith("_")


def _steps_left(bounds: Tensor, device: torch.device) -> Tensor:
    """For each row the steps to the end of its segment, itself included, int32."""
    lengths = bounds.diff()
    ends = torch.repeat_interleave(bounds[1:], lengths)
    return (ends - torch.arange(ends.shape[0])).to(device, torch.int32)


def _begins_segment(left: Tensor) -> Tensor:
    """``left`` of successive rows; the first one begins a segment."""
    before = left.roll(1)
    before[:1] = 1
    return before == 1


def _begins_window(left: Tensor, length: int) -> Tensor:
    return (left >= length) | _begins_segment(left)


def _check_count(name: str, value: int | None) -> None:
    if not isinstance(value, int):
        raise TypeError(f"Replay: {name} must be an int, got {value!r}")
    if value < 1:
        raise ValueError(f"Replay: {name} must be at least 1, got {value}")


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"Replay: {name} must be finite and at least 0, got {value}")


def _check_one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        choices = " or ".join(map(repr, allowed))
        raise ValueError(f"Replay: {name} must be {choices}, got {value!r}")

"""Frames that rows of a replay share, each stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from machin_fast import ops
from machin_fast.data.columns import Column, Memory, new_columns

# A row needs one new frame; each episode a few more. This share more than rows serves episodes
# from about 50 steps on; with shorter ones the oldest rows leave a little earlier.
_SPARE = 1.04


class Frames:
    """Memory of frames, numbered in the order they came; the newest take the oldest one's place.

    A replay stores numbers in place of frames. A frame is not stored again where it stands among
    those that came just before: the next state of a step is the state of the step after it, and
    the frames of a stack move up by one.

    Args:
        names: Of the columns that hold frames, in order of time, such as state and next_state.
        stack: A row is this many frames, ``[stack, ...]``, oldest first; 1: it is one frame.
        rows: Capacity of the replay.
        device: Where frames live.
        memory: Of the CPU: plain, pinned, or shared by processes.
    """

    def __init__(
        self,
        names: Sequence[str],
        stack: int,
        rows: int,
        device: torch.device,
        memory: Memory = "plain",
    ) -> None:
        self.names = tuple(names)
        self.stack = stack
        self.capacity = int(_SPARE * rows) + 2 * stack
        self._device = device
        self._kind: Memory = memory
        self._memory: Tensor | None = None
        self._stored = 0
        self._previous: Tensor | None = None  # numbers of the last column, if that was a step
        self._new: tuple[Tensor, Tensor | None] | None = None  # frames, and what is then previous

    @property
    def oldest(self) -> int:
        """Number of the oldest frame in the memory."""
        return max(0, self._stored - self.capacity)

    def encode(
        self, columns: Mapping[str, Column], bounds: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Gives numbers to the frames of rows; ``write`` then stores those that are new.

        Args:
            columns: All of the rows' columns.
            bounds: Of the segments that the rows are. None: they are one step of several
                environments, whose next one comes with the next call.

        Returns:
            For each of ``names`` the numbers of its frames, ``[n, stack]`` int64; and how old a
            frame each row needs, ``[n]`` int64, ascending from call to call.

        Raises:
            ValueError: Frames have no or another shape, or too many are new at once; then nothing
                is changed.
        """
        new = self._together(columns)
        parent, known = self._find(new, bounds)
        fresh = (parent == torch.arange(parent.numel(), device=parent.device)) & (known < 0)
        fresh = fresh.nonzero().squeeze(1)
        if fresh.numel() > self.capacity:
            raise ValueError(
                f"Replay.append: {self.names[0]} must bring at most {self.capacity} new frames at "
                f"once, got {fresh.numel()}"
            )
        known[fresh] = self._stored + torch.arange(fresh.numel(), device=known.device)
        number = known[parent].view(new.shape[:3])
        (frames,) = ops.gather_rows([new.flatten(0, 2)], fresh, check=False)
        self._new = frames, number[:, -1].clone() if bounds is None else None
        need = number.flatten(1).amin(1)
        if bounds is None:
            need = need.amin().expand_as(need)
        return {name: number[:, i] for i, name in enumerate(self.names)}, need

    def write(self) -> None:
        """Stores what is new of the rows that were encoded last."""
        if self._new is None:
            return
        frames, self._previous = self._new
        self._new = None
        if self._memory is None:
            self._memory = self._allocate(frames)
        ops.write_rows_([self._memory], [frames], self._stored % self.capacity)
        self._stored += frames.shape[0]

    def decode(self, number: Tensor, out: Tensor | None = None) -> Tensor:
        """The frames of numbers ``[n, stack]``: rows as they were given."""
        assert self._memory is not None
        if out is None:
            out = self.empty(number.shape[0])
        flat = out.view(number.numel(), *self._memory.shape[1:])
        slot = number.flatten() % self.capacity
        ops.gather_rows([self._memory], slot, out=[flat], check=False)
        return out

    def empty(self, n: int) -> Tensor:
        """Memory for n decoded rows."""
        assert self._memory is not None
        stack = (self.stack,) if self.stack > 1 else ()
        return self._memory.new_empty((n, *stack, *self._memory.shape[1:]))

    def nbytes(self) -> int:
        """Bytes of memory."""
        return 0 if self._memory is None else self._memory.nbytes

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Everything, for ``load_state_dict``. Without ``copy`` tensors are views."""
        used = None if self._memory is None else self._memory[: self._stored]
        return {
            "memory": used.clone() if copy and used is not None else used,
            "stored": self._stored,
            "previous": self._previous,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave.

        Raises:
            ValueError: Its frames have another shape or dtype; then nothing is changed.
        """
        memory = state["memory"]
        if memory is None:
            self._memory = None
        else:
            like = self._allocate(memory) if self._memory is None else self._memory
            if memory.shape[1:] != like.shape[1:] or memory.dtype != like.dtype:
                raise ValueError(
                    f"Replay.load_state_dict: frames must be {list(like.shape[1:])} of "
                    f"{like.dtype}, got {list(memory.shape[1:])} of {memory.dtype}"
                )
            like[: memory.shape[0]] = memory
            self._memory = like
        self._stored = state["stored"]
        previous = state["previous"]
        self._previous = None if previous is None else previous.to(self._device)

    def clear(self) -> None:
        """Forgets all frames."""
        self._stored = 0
        self._previous = None

    def _together(self, columns: Mapping[str, Column]) -> Tensor:
        """Rows of all columns, ``[n, columns, stack, ...]``."""
        rows = []
        for name in self.names:
            column = columns[name]
            if isinstance(column, list) or (
                self.stack > 1 and (column.dim() < 2 or column.shape[1] != self.stack)
            ):
                got = "a list" if isinstance(column, list) else str(list(column.shape))
                stack = f", {self.stack}" if self.stack > 1 else ""
                raise ValueError(f"Replay.append: {name} must be [n{stack}, ...], got {got}")
            rows.append(column if self.stack > 1 else column.unsqueeze(1))
            like = rows[0] if self._memory is None else self._memory.unsqueeze(1)
            if rows[-1].shape[2:] != like.shape[2:] or rows[-1].dtype != like.dtype:
                raise ValueError(
                    f"Replay.append: {name} must have frames {list(like.shape[2:])} of "
                    f"{like.dtype}, got {list(rows[-1].shape[2:])} of {rows[-1].dtype}"
                )
        return torch.stack(rows, dim=1)

    def _find(self, new: Tensor, bounds: Tensor | None) -> tuple[Tensor, Tensor]:
        """Where each frame of ``new`` stands already: an earlier place in ``new`` (or its own),
        and in the memory (a number, or -1)."""
        n, columns = new.shape[:2]
        content = _words(new.view(n, columns, self.stack, -1))
        parent = torch.arange(n * columns * self.stack, device=new.device)
        place = parent.view(n, columns, self.stack)
        parent = parent.clone()
        known = torch.full_like(parent, -1)

        def link(child: tuple[Any, ...], other: tuple[Any, ...]) -> None:
            same = (content[child] == content[other]).all(-1)
            parent[place[child][same]] = place[other][same]

        # Later links overrule earlier ones.
        every = slice(None)
        for j in range(1, self.stack):  # an episode's first stack repeats its first frame
            link((every, every, j), (every, every, j - 1))
        for c in range(1, columns):
            for j in range(self.stack - 1):
                link((every, c, j), (every, c - 1, j + 1))
        # The row before, whose last column is this row's first one (or, of a single column, moves
        # up by one).
        shift = int(columns == 1)
        for j in range(self.stack - shift):
            if bounds is not None:
                follows = torch.ones(n, dtype=torch.bool, device=new.device)
                follows[bounds[:-1].to(new.device)] = False
                row = follows.nonzero().squeeze(1)
                link((row, 0, j), (row - 1, -1, j + shift))
            elif self._previous is not None and self._previous.shape[0] == n:
                number = self._previous[:, j + shift]
                assert self._memory is not None
                (stored,) = ops.gather_rows([self._memory], number % self.capacity, check=False)
                same = (content[:, 0, j] == _words(stored.view(n, -1))).all(-1)
                # No older ones: a stream that stands still would hold on to a frame for ever, and
                # all rows would leave with it.
                same &= number >= max(self.oldest, self._stored - 2 * parent.numel())
                here = place[:, 0, j][same]
                known[here] = number[same]
                parent[here] = here
        while not torch.equal(parent, further := parent[parent]):
            parent = further
        return parent, known

    def _allocate(self, like: Tensor) -> Tensor:
        return new_columns({"frame": like}, self.capacity, self._device, self._kind)["frame"]


def _words(rows: Tensor) -> Tensor:
    """The bits of rows ``[..., k]`` in the largest numbers they fill."""
    bits = rows.contiguous().view(torch.uint8)
    return bits.view(torch.int64) if bits.shape[-1] % 8 == 0 else bits

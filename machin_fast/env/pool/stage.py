"""Where steps take place: blocks, and in which row of one each environment is."""

from __future__ import annotations

import mmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from machin_fast.env.pool.memory import Arena, Block, BlockShape, Board
from machin_fast.env.pool.spaces import Tree, convert, take, write_actions
from machin_fast.utils.anonymous_memory import AnonymousMemory

Ids = NDArray[np.int64]


class Row(NamedTuple):
    """One step of all environments: views ``[envs, ...]`` of a block."""

    observation: Tree
    """What the step led to."""
    action: Tree
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class Stage:
    """The memory of a pool, and how far its environments are.

    There is always one block that steps take place in. It holds each environment's last
    observation, also while the next one is written.

    Args:
        shape: Of the first block, a ring.
        num_workers: How many processes share the memory.

    Attributes:
        memory: Of the board and the first block; None if no process shares it.
        buffers: The memory of each block.
        ended: ``[envs]``, whose episode ended in its last step.
    """

    def __init__(self, shape: BlockShape, num_workers: int) -> None:
        n = shape.num_envs
        measure = Arena()
        Board(measure, n, num_workers)
        Block(shape, measure)
        self.buffers: list[mmap.mmap] = []
        self.memory, arena = self._allocate(measure.size, shared=num_workers > 0)
        self.board = Board(arena, n, num_workers)
        self.blocks = [Block(shape, arena)]
        self._rows_of = [_rows(self.blocks[0])]
        self.ended = np.zeros(n, bool)
        self._scratch: Tree = convert(self.blocks[0].action, lambda array: array[0].copy())
        # The row of the last observation: of all environments, or one by one.
        self._together = True
        self._row = 0
        self._row_each = np.zeros(n, np.int64)
        self._going = np.zeros(n, np.int64)
        self._env = np.arange(n)
        self._use(0)

    def add(self, shape: BlockShape, *, shared: bool) -> tuple[int, AnonymousMemory | None]:
        """Another block; its number, and its memory if processes are to share it."""
        memory, arena = self._allocate(shape.nbytes, shared=shared)
        self.blocks.append(Block(shape, arena))
        self._rows_of.append(_rows(self.blocks[-1]))
        return len(self.blocks) - 1, memory

    def _allocate(self, size: int, *, shared: bool) -> tuple[AnonymousMemory | None, Arena]:
        memory = AnonymousMemory(size) if shared else None
        self.buffers.append(mmap.mmap(-1, size) if memory is None else memory.buffer)
        return memory, Arena(self.buffers[-1])

    def free(self) -> None:
        """Lets go of the memory, which lives on as long as views of it; nothing works then."""
        self.__dict__.clear()

    # -- in which block ------------------------------------------------------------------------

    @property
    def block(self) -> Block:
        """Where steps take place."""
        return self.blocks[self.number]

    def enter(self, number: int) -> None:
        """Lets steps take place in another block, or in the same one from its row 0 on."""
        last = self.observation()
        into = take(self.blocks[number].observation, 0)
        _put(into, ..., convert(last, np.copy))
        self._use(number)
        self._together, self._row = True, 0

    def _use(self, number: int) -> None:
        self.number = number
        block = self.blocks[number]
        self.rows = self._rows_of[number]
        self._is_ring, self._ahead = block.shape.is_ring, block.ahead
        shape = len(self.rows) + self._ahead, len(self._env)
        self._slots = np.arange(shape[0] * shape[1]).reshape(shape)
        self.board.block[0] = number

    # -- all environments at once --------------------------------------------------------------

    @property
    def row(self) -> int:
        """The row of the last observations."""
        if not self._together:
            self._gather()
        return self._row

    def begin_all(self, actions: Any) -> int:
        """Says where the next step of all environments is, and writes its actions there.

        Returns:
            Its row, for ``end_all``.
        """
        row = 1 - self.row if self._is_ring else self.row
        if row >= len(self.rows):
            raise IndexError(f"RolloutBlock.step: steps must be at most {row}, got one more")
        write_actions(self.rows[row].action, actions)
        self.board.slot[:] = self._slots[row]
        return row

    def end_all(self, row: int) -> Row:
        """All environments have stepped."""
        self._row = row + self._ahead
        found = self.rows[row]
        np.logical_or(found.terminated, found.truncated, out=self.ended)
        return found

    # -- some environments ---------------------------------------------------------------------

    def begin(self, env_ids: Ids, actions: Any) -> None:
        """As ``begin_all``, of some."""
        self._apart()
        last = self._row_each[env_ids]
        rows = 1 - last if self._is_ring else last
        if len(rows) and rows.max() >= len(self.rows):
            raise IndexError(
                f"RolloutBlock.send: steps must be at most {len(self.rows)}, got one more of "
                f"environment {env_ids[rows.argmax()]}"
            )
        staged = take(self._scratch, slice(len(env_ids)))
        write_actions(staged, actions)
        _put(self.block.action, (rows, env_ids), staged)
        self._going[env_ids] = rows
        self.board.slot[env_ids] = rows * len(self._env) + env_ids

    def end(self, env_ids: Ids) -> None:
        """These have stepped."""
        rows = self._going[env_ids]
        block = self.block
        self._row_each[env_ids] = rows + self._ahead
        self.ended[env_ids] = block.terminated[rows, env_ids] | block.truncated[rows, env_ids]

    def results(self, env_ids: Ids) -> Row:
        """The last step of some environments: views if they stand side by side, else copies."""
        rows, block = self._going[env_ids], self.block
        first = int(env_ids[0]) if len(env_ids) else 0
        index: Any = rows, env_ids
        seen: Any = rows + self._ahead, env_ids
        if len(env_ids) and (rows == rows[0]).all() and (np.diff(env_ids) == 1).all():
            envs = slice(first, first + len(env_ids))
            index, seen = (int(rows[0]), envs), (int(rows[0]) + self._ahead, envs)
        return Row(
            take(block.observation, seen),
            take(block.action, index),
            block.reward[index],
            block.terminated[index],
            block.truncated[index],
        )

    def steps_taken(self, env_ids: Ids) -> Ids:
        """In a block that is no ring, how many steps each of these has taken."""
        return self._row_each[env_ids] if not self._together else np.full(len(env_ids), self._row)

    def _apart(self) -> None:
        if self._together:
            self._row_each[:] = self._row
            self._together = False

    def _gather(self) -> None:
        """Brings the last observations into one row."""
        row = int(self._row_each[0])
        behind = np.flatnonzero(self._row_each != row)
        if len(behind):
            if not self._is_ring:
                raise RuntimeError(
                    "RolloutBlock.step: environments must be at the same step, got some that are "
                    "ahead of others"
                )
            tree = self.block.observation
            last = take(tree, (self._row_each[behind], behind))
            _put(tree, (np.full(len(behind), row), behind), last)
        self._together, self._row = True, row

    # -- one environment -----------------------------------------------------------------------

    def observation(self) -> Tree:
        """The last observations, ``[envs, ...]``."""
        if self._together:
            return take(self.block.observation, self._row)
        return take(self.block.observation, (self._row_each, self._env))

    def first_slots(self, env_ids: Ids) -> Ids:
        """Where observations of a reset go: in the place of the last ones."""
        row = self.row
        self.ended[env_ids] = False
        return row * len(self._env) + env_ids

    def slot_of_outcome(self, env_id: int) -> int:
        """Where the observation goes that a step under way leads to."""
        return int(self.board.slot[env_id]) + self._ahead * len(self._env)

    def action(self, env_id: int) -> Any:
        """What an environment was to step with."""
        row = int(self.board.slot[env_id]) // len(self._env)
        return take(self.block.action, (row, env_id))

    def cut(self, env_id: int) -> None:
        """Answers for an environment that was lost: nothing happened, and the episode is cut."""
        n, block = len(self._env), self.block
        row = int(self.board.slot[env_id]) // n
        last = self._row if self._together else int(self._row_each[env_id])
        seen = take(block.observation, (last, env_id))
        _put(block.observation, (row + self._ahead, env_id), seen)
        if block.final_observation is not None:
            _put(block.final_observation, env_id, seen)
        block.reward[row, env_id] = 0.0
        block.terminated[row, env_id] = False
        block.truncated[row, env_id] = True


def _rows(block: Block) -> list[Row]:
    def row(tree: Tree, number: int) -> Tree:
        return convert(tree, lambda array: array[number])

    return [
        Row(
            row(block.observation, t + block.ahead),
            row(block.action, t),
            block.reward[t],
            block.terminated[t],
            block.truncated[t],
        )
        for t in range(block.shape.steps)
    ]


def _put(tree: Tree, index: Any, values: Tree) -> None:
    if isinstance(tree, dict | tuple):
        for key in tree.keys() if isinstance(tree, dict) else range(len(tree)):
            _put(tree[key], index, values[key])
    else:
        tree[index] = values

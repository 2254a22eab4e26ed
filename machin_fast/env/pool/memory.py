"""What parent and workers share: arrays in one piece of memory each.

Both sides lay them out by the same code from the same spaces, so only the memory travels.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from machin_fast.env.pool.spaces import Tree, build, convert

_LINE = 64  # bytes of a cache line: arrays that different processes write do not share one


class Arena:
    """Arrays one after the other in a buffer; without a buffer only their size is found."""

    def __init__(self, buffer: mmap.mmap | None = None) -> None:
        self._buffer = buffer
        self.size = 0

    def array(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """The next array. Zeros at first, as the memory is."""
        begin = -(-self.size // _LINE) * _LINE
        self.size = begin + math.prod(shape) * np.dtype(dtype).itemsize
        if self._buffer is None or not math.prod(shape):
            return np.empty(shape if self._buffer is not None else 0, dtype)
        return np.ndarray(shape, dtype, self._buffer, begin)


class Board:
    """Where each environment's next step takes place, and what workers tell of themselves.

    Attributes:
        block: ``[1]``, number of the block that is stepped in.
        slot: ``[envs]``, the row of it that each environment's next step belongs to.
        steps, seconds: ``[workers]``, what each worker has stepped, and how long that took.
    """

    def __init__(self, arena: Arena, num_envs: int, num_workers: int) -> None:
        self.block = arena.array((1,), np.int64)
        self.slot = arena.array((num_envs,), np.int64)
        self.steps = arena.array((num_workers,), np.int64)
        self.seconds = arena.array((num_workers,), np.float64)


@dataclass(frozen=True)
class BlockShape:
    """What a block's layout follows from.

    Attributes:
        observation, action: Spaces of one environment.
        num_envs: Environments side by side.
        steps: How many steps there is room for.
        is_ring: Steps go round and round, and each has its observation beside it. Else there is
            one observation more than steps: that of row 0 is what was seen before step 0.
        keeps_final: There is room for an episode's last observation beside the next one's first.
    """

    observation: Space[Any]
    action: Space[Any]
    num_envs: int
    steps: int
    is_ring: bool
    keeps_final: bool

    @property
    def nbytes(self) -> int:
        """Bytes of memory that a block needs."""
        arena = Arena()
        Block(self, arena)
        return arena.size


class Block:
    """Steps of all environments, ``[steps, envs, ...]``.

    Attributes:
        observation, action: Trees of arrays, nested as their spaces.
        final_observation: Like ``observation``, ``[envs, ...]``; None where none is kept.
        reward: float64, as Gymnasium gives.
        terminated, truncated: bool.
        ahead: How many rows further than a step's other columns its observation stands.
    """

    def __init__(self, shape: BlockShape, arena: Arena) -> None:
        def columns(space: Space[Any], *lead: int) -> Tree:
            return build(space, lambda leaf: arena.array((*lead, *_shape(leaf)), leaf.dtype))

        steps, envs = shape.steps, shape.num_envs
        self.shape = shape
        self.ahead = 0 if shape.is_ring else 1
        self.observation = columns(shape.observation, steps + self.ahead, envs)
        self.action = columns(shape.action, steps, envs)
        self.reward = arena.array((steps, envs), np.float64)
        self.terminated = arena.array((steps, envs), np.bool_)
        self.truncated = arena.array((steps, envs), np.bool_)
        self.final_observation = columns(shape.observation, envs) if shape.keeps_final else None


def flat(tree: Tree) -> Tree:
    """Arrays ``[rows, envs, ...]`` as ``[rows * envs, ...]``: a slot for each."""
    return convert(tree, lambda array: array.reshape(-1, *array.shape[2:]))


def _shape(leaf: Space[Any]) -> tuple[int, ...]:
    assert leaf.shape is not None  # of all plain spaces
    return leaf.shape

"""Trajectories on their way to another process: their rows in shared memory without a name."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from machin_fast.data import Trajectory
from machin_fast.data.assembly import tensor_of
from machin_fast.utils.anonymous_memory import AnonymousMemory

_ALIGNMENT = 64

Place = tuple[torch.dtype, tuple[int, ...], int]
"""Dtype, shape and first byte of a tensor."""


@dataclass(frozen=True)
class Freight:
    """Where in memory a trajectory's tensors are."""

    columns: dict[str, Place]
    final: dict[str, Place]
    bounds: Place
    envs: int | None
    size: int


def pack(trajectory: Trajectory) -> tuple[Freight, AnonymousMemory]:
    """Copies a trajectory of tensors on the CPU into memory of its own.

    Raises:
        MemoryError: There is not enough.
    """
    size = 0
    tensors: list[tuple[Place, Tensor]] = []

    def placed(x: Tensor) -> Place:
        nonlocal size
        place = (x.dtype, tuple(x.shape), size)
        tensors.append((place, x))
        size = -(-(size + x.numel() * x.itemsize) // _ALIGNMENT) * _ALIGNMENT
        return place

    columns = {name: placed(tensor_of(x, name)) for name, x in trajectory.columns.items()}
    final = {name: placed(tensor_of(x, name)) for name, x in trajectory.final.items()}
    bounds = placed(trajectory.bounds)
    memory = AnonymousMemory(max(size, 1))
    for place, x in tensors:
        _tensor(memory.buffer, place).copy_(x)
    return Freight(columns, final, bounds, trajectory.envs, memory.size), memory


def unpack(freight: Freight, fd: int) -> Trajectory:
    """The trajectory, whose tensors are views of the memory; takes the fd over."""
    try:
        buffer = mmap.mmap(fd, freight.size)
    finally:
        os.close(fd)

    def tensors(places: Mapping[str, Place]) -> dict[str, Tensor]:
        return {name: _tensor(buffer, place) for name, place in places.items()}

    return Trajectory._of(
        tensors(freight.columns),
        _tensor(buffer, freight.bounds),
        tensors(freight.final),
        freight.envs,
    )


def _tensor(buffer: mmap.mmap, place: Place) -> Tensor:
    dtype, shape, begin = place
    if not math.prod(shape):
        return torch.empty(shape, dtype=dtype)
    found = torch.frombuffer(buffer, dtype=dtype, count=math.prod(shape), offset=begin)
    return found.view(shape)

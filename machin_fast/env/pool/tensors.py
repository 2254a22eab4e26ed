"""The pool's memory as torch tensors."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from machin_fast.env.pool.spaces import Tree, convert

if TYPE_CHECKING:
    from machin_fast.env.pool.stage import Row


class Tensors(NamedTuple):
    """One step of all environments, ``[envs, ...]``: views, nothing is copied.

    Observation and action are nested as their spaces.
    """

    observation: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any


def as_tensors(row: Row) -> Tensors:
    """Views of the same memory."""
    return Tensors(*(tensor_views(tree) for tree in row))


def tensor_views(tree: Tree) -> Any:
    """Tensors that are views of the arrays of a tree."""
    import torch

    return convert(tree, torch.from_numpy)


def pin(buffer: mmap.mmap) -> bool:
    """Lets CUDA copy straight out of this memory, without a staging buffer of its own.

    Returns:
        Whether it does; without CUDA it does not.
    """
    import torch

    if not torch.cuda.is_available():
        return False
    torch.cuda.init()
    return int(torch.cuda.cudart().cudaHostRegister(_address(buffer), len(buffer), 0)) == 0


def unpin(buffer: mmap.mmap) -> None:
    """Undoes ``pin``."""
    import torch

    torch.cuda.cudart().cudaHostUnregister(_address(buffer))


def _address(buffer: mmap.mmap) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)

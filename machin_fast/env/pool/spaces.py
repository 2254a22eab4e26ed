"""Spaces as columns: arrays with one row for each environment, nested as the space is.

A tree is an array, or a dict or tuple of trees, as the space is a plain one, a Dict or a Tuple.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

Tree: TypeAlias = Any
PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_supported(name: str, space: Space[Any]) -> None:
    """Refuses spaces whose values are not arrays of one shape.

    Raises:
        ValueError: Somewhere in it is another space than Box, Discrete, MultiDiscrete,
            MultiBinary, Dict or Tuple.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        for part in parts:
            check_supported(name, part)
    elif not isinstance(space, PLAIN):
        raise ValueError(
            f"ActorPool: {name} must be made of Box, Discrete, MultiDiscrete, MultiBinary, Dict "
            f"and Tuple, got {space}"
        )


def build(space: Space[Any], make: Callable[[Space[Any]], Any]) -> Tree:
    """A tree with ``make(plain space)`` at each leaf."""
    if isinstance(space, spaces.Dict):
        return {key: build(part, make) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(build(part, make) for part in space.spaces)
    return make(space)


def convert(tree: Tree, change: Callable[[Any], Any]) -> Tree:
    """A tree with ``change(leaf)`` in each leaf's place."""
    if isinstance(tree, dict):
        return {key: convert(part, change) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(convert(part, change) for part in tree)
    return change(tree)


def writer(tree: Tree) -> Callable[[int, Any], None]:
    """A function ``(slot, value)`` that writes one environment's value into rows of arrays.

    It does not look at shapes, which ``shape_fault`` does now and then: this runs each step.
    """
    if isinstance(tree, dict):
        return _write_parts([(key, writer(part)) for key, part in tree.items()])
    if isinstance(tree, tuple):
        return _write_parts([(key, writer(part)) for key, part in enumerate(tree)])
    put: Callable[[int, Any], None] = tree.__setitem__
    return put


def _write_parts(parts: list[tuple[Any, Callable[[int, Any], None]]]) -> Callable[[int, Any], None]:
    def write(slot: int, value: Any) -> None:
        for key, put in parts:
            put(slot, value[key])

    return write


def reader(tree: Tree) -> Callable[[int], Any]:
    """A function ``(slot)`` that reads one environment's value, in memory of its own.

    Numbers come as numpy scalars, as iterating over a batch of them gives.
    """
    if isinstance(tree, dict):
        named = {key: reader(part) for key, part in tree.items()}
        return lambda slot: {key: read(slot) for key, read in named.items()}
    if isinstance(tree, tuple):
        parts = tuple(reader(part) for part in tree)
        return lambda slot: tuple(read(slot) for read in parts)
    if tree.ndim == 1:
        get: Callable[[int], Any] = tree.__getitem__
        return get
    # An environment may keep its action, and the row is written again.
    return lambda slot: tree[slot].copy()


def shape_fault(tree: Tree, value: Any) -> str | None:
    """What is wrong with one environment's value; None if its rows take it as it is."""
    if isinstance(tree, dict | tuple):
        keys = tree.keys() if isinstance(tree, dict) else range(len(tree))
        for key in keys:
            try:
                part = value[key]
            except (KeyError, IndexError, TypeError):
                return f"{key!r} is missing"
            if fault := shape_fault(tree[key], part):
                return f"{key!r}: {fault}"
        return None
    found = np.asarray(value)
    if found.shape != tree.shape[1:]:
        return f"shape {list(found.shape)} is not {list(tree.shape[1:])}"
    if not np.can_cast(found.dtype, tree.dtype, "same_kind") and found.dtype != bool:
        return f"dtype {found.dtype} is not {tree.dtype}"
    return None


def write_actions(into: Tree, actions: Any, name: str = "actions") -> None:
    """Copies a batch of actions into arrays ``[n, ...]``, which fixes their dtype.

    Raises:
        ValueError: A shape differs.
        TypeError: A part is missing, or would lose more than precision.
    """
    if isinstance(into, dict | tuple):
        keys = into.keys() if isinstance(into, dict) else range(len(into))
        for key in keys:
            try:
                part = actions[key]
            except (KeyError, IndexError, TypeError) as error:
                kind = type(actions).__name__
                raise TypeError(f"ActorPool: {name} must have {key!r}, got {kind}") from error
            write_actions(into[key], part, f"{name}[{key!r}]")
        return
    given = actions if type(actions) is np.ndarray else np.asarray(actions)
    if given.shape != into.shape:
        raise ValueError(
            f"ActorPool: {name} must have shape {list(into.shape)}, got {list(given.shape)}"
        )
    if given.dtype != into.dtype and not _fits(given, into.dtype):
        raise TypeError(f"ActorPool: {name} must be {into.dtype}, got {given.dtype}")
    into[...] = given


def _fits(given: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Do numbers lose no more than precision?"""
    if given.dtype.kind in "iu" and dtype.kind in "iu":  # an int64 list for a space of uint8
        return bool((given.astype(dtype) == given).all())
    return np.can_cast(given.dtype, dtype, "same_kind")


def take(tree: Tree, index: Any) -> Tree:
    """Rows of each array: views where ``index`` is a slice, else copies."""
    return convert(tree, lambda array: array[index])

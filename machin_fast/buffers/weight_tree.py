"""Machin's weight tree: a sum tree that is asked with arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from machin_fast import ops
from machin_fast.data.sum_tree import SumTree

Array: TypeAlias = np.ndarray[Any, Any]


class WeightTree:
    """Weights of ``size`` leaves, changed and searched in O(log N).

    The state is a ``SumTree``; Machin's own layout of nodes, ``weights``, is computed when asked
    for.

    Args:
        size: Number of leaves. All weights are 0 at first.

    Attributes:
        size: Number of leaves.
        max_leaf: The largest weight ever set.
        depth: Number of levels of Machin's layout, leaves included.
        sizes: Nodes of each level, leaves first; powers of two.
        offsets: Where each level begins in ``weights``, and its length.

    Raises:
        ValueError: ``size`` is less than 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"WeightTree: size must be at least 1, got {size}")
        self.size = size
        self.max_leaf = 0.0
        self.depth = (size - 1).bit_length() + 1
        self.sizes: Array = 2 ** np.arange(self.depth - 1, -1, -1)
        self.offsets: Array = np.concatenate(([0], np.cumsum(self.sizes)))
        # What the sum tree allows at most, so that no sum can overflow.
        self._largest = np.finfo(np.float64).max / (64 * size)
        self._tree = SumTree(size, dtype=torch.float64, seed=0)

    @property
    def weights(self) -> Array:
        """All nodes as Machin lays them out: leaves and padding, level by level up to the root."""
        level = np.zeros(self.sizes[0])
        level[: self.size] = self.get_leaf_all_weights()
        levels = [level]
        while len(level) > 1:
            level = level[::2] + level[1::2]
            levels.append(level)
        return np.concatenate(levels)

    def get_weight_sum(self) -> float:
        """The sum of all weights."""
        return self._tree.total()

    def get_leaf_max(self) -> float:
        """The largest weight that was ever set, or is since ``update_all_leaves``."""
        return self.max_leaf

    def get_leaf_all_weights(self) -> Array:
        """All weights, ``[size]``, float64; a view that cannot be written into."""
        weights: Array = self._tree.leaves.numpy()
        weights.flags.writeable = False
        return weights

    def get_leaf_weight(self, index: int | Sequence[int] | Array) -> Any:
        """Weights of some leaves.

        Args:
            index: One or ``[n]``, in [0, size).

        Returns:
            A float for one, ``[n]`` for an array or a list.

        Raises:
            ValueError: An index is out of range.
        """
        places = self.check_index("WeightTree.get_leaf_weight", index)
        weights = self.get_leaf_all_weights()[places]
        return weights if places.ndim else float(weights)

    def find_leaf_index(self, weight: float | Sequence[float] | Array) -> Any:
        """The first leaf where the sum of weights up to and with it is at least ``weight``.

        Args:
            weight: One or ``[n]``. 0 and below find the first leaf, more than the sum of all
                weights the last.

        Returns:
            An int for one, ``[n]``, int64, for an array or a list.

        Raises:
            ValueError: A weight is NaN.
        """
        given = np.asarray(weight, np.float64)
        wanted = given.reshape(-1)
        if np.isnan(wanted).any():
            position = int(np.isnan(wanted).argmax())
            raise ValueError(
                "WeightTree.find_leaf_index: weight must be a number, "
                f"got nan at position {position}"
            )
        index = np.where(wanted > 0, self.size - 1, 0)
        inside = (wanted > 0) & (wanted <= self._tree.total())
        if inside.any():
            # The sum tree's leaf is the first whose running sum exceeds the target.
            target = torch.from_numpy(np.nextafter(wanted[inside], -np.inf))
            found = ops.sum_tree_find(self._tree.nodes, target, capacity=self.size)
            index[inside] = found.numpy()
        return index.reshape(given.shape) if given.ndim else int(index[0])

    def update_leaf(self, weight: float, index: int) -> None:
        """Sets one weight.

        Args:
            weight: Finite, not negative.
            index: In [0, size).

        Raises:
            ValueError: One is not as listed above; then nothing is changed.
        """
        self._update("update_leaf", np.atleast_1d(weight), np.atleast_1d(index))

    def update_leaf_batch(
        self, weights: Sequence[float] | Array, indexes: Sequence[int] | Array
    ) -> None:
        """Sets weights. Of a repeated index the last one stays.

        Args:
            weights: ``[n]``, finite, not negative.
            indexes: ``[n]``, in [0, size).

        Raises:
            ValueError: Something is not as listed above; then nothing is changed.
        """
        self._update("update_leaf_batch", np.asarray(weights), np.asarray(indexes))

    def update_all_leaves(self, weights: Sequence[float] | Array) -> None:
        """Sets all weights, and forgets the largest before.

        Args:
            weights: ``[size]``, finite, not negative.

        Raises:
            ValueError: Something is not as listed above; then nothing is changed.
        """
        op = "WeightTree.update_all_leaves"
        if len(weights) != self.size:
            raise ValueError(
                f"{op}: Weights size must match tree size: weights must have {self.size} "
                f"entries, got {len(weights)}"
            )
        new = self.check_weights(op, np.asarray(weights))
        self._tree.leaves.copy_(torch.from_numpy(new))
        self._tree.rebuild_()
        self.max_leaf = float(new.max())

    def print_weights(self, precision: int = 2) -> None:
        """Prints all levels, leaves first.

        Args:
            precision: Digits behind the point.
        """
        weights = self.weights
        for begin, size in zip(self.offsets, self.sizes, strict=False):
            print([f"{weight:.{precision}f}" for weight in weights[begin : begin + size]])

    def check_weights(self, op: str, weights: Array) -> Array:
        """Refuses what no weight can be.

        Args:
            op: Who asks, for errors.
            weights: ``[n]``.

        Returns:
            ``[n]``, float64, contiguous.

        Raises:
            ValueError: One is NaN, infinite, negative or so large that sums could overflow.
        """
        checked = np.ascontiguousarray(weights, np.float64)
        good = (checked >= 0) & (checked <= self._largest)
        if not good.all():
            position = int(good.argmin())
            raise ValueError(
                f"{op}: weight must be in [0, {self._largest:.1e}], "
                f"got {checked[position]} at position {position}"
            )
        return checked

    def _update(self, method: str, weights: Array, indexes: Array) -> None:
        op = f"WeightTree.{method}"
        if weights.shape != indexes.shape or weights.ndim != 1:
            raise ValueError(
                f"{op}: Dimension of weights and indexes doesn't match: both must be [n], "
                f"got {list(weights.shape)} and {list(indexes.shape)}"
            )
        if not len(weights):
            return
        places = self.check_index(op, indexes)
        self.set_checked(self.check_weights(op, weights), places)

    def check_index(self, op: str, index: Any) -> Array:
        """Refuses what is no leaf.

        Args:
            op: Who asks, for errors.
            index: One or ``[n]``.

        Returns:
            The same, int64, contiguous.

        Raises:
            TypeError: They are no integers.
            ValueError: One is not in [0, size).
        """
        given = np.asarray(index)
        if given.dtype.kind not in "iu" and given.size:
            raise TypeError(f"{op}: index must be int, got {given.dtype}")
        good = (given >= 0) & (given < self.size)
        if not good.all():
            position = int(np.argmin(good))
            raise ValueError(
                f"{op}: Index has elements out of boundary: index must be in "
                f"[0, {self.size}), got {given.flat[position]} at position {position}"
            )
        return np.asarray(given, np.int64, order="C")

    def set_checked(self, weights: Array, indexes: Array) -> None:
        """Sets weights that are known to be good.

        Args:
            weights: ``[n]``, float64, from ``check_weights``.
            indexes: ``[n]``, int64, in [0, size).
        """
        self._tree.update_(torch.from_numpy(indexes), torch.from_numpy(weights))
        self.max_leaf = max(self.max_leaf, float(weights.max(initial=0)))

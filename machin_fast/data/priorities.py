"""Priorities of the rows of a ring."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from machin_fast import ops
from machin_fast._extension import direct_calls, library
from machin_fast.functional import importance_weight


class Priorities:
    """A sum tree over the slots of a ring, whose row r is at slot ``r % capacity``.

    The mass of a row is ``(priority + epsilon) ** alpha``, in float32; of a slot that must not be
    drawn it is 0.

    Args:
        capacity: Number of slots.
        device: Where the tree lives.
        alpha: Exponent of priorities.
        epsilon: Added to each priority.
        zero_stays: An update leaves rows of mass 0 as they are: they must not be drawn.

    Attributes:
        nodes: The tree (``machin_fast.ops.sum_tree_new``), with minimum.
        largest: The largest priority ever set, ``[1]`` float64, at least 1.
    """

    def __init__(
        self,
        capacity: int,
        device: torch.device,
        *,
        alpha: float,
        epsilon: float,
        zero_stays: bool = False,
    ) -> None:
        self.capacity = capacity
        self.device = device
        self.alpha = alpha
        self.epsilon = epsilon
        self.nodes = ops.sum_tree_new(capacity, device=device, minimum=True)
        self.largest = torch.ones(1, dtype=torch.float64)
        self._zero_stays = zero_stays
        self._direct = direct_calls and device.type == "cpu" and not zero_stays

    def share(self) -> None:
        """Moves everything to memory that processes share."""
        self.nodes.share_memory_()
        self.largest.share_memory_()

    @property
    def leaves(self) -> Tensor:
        """The masses of all slots, ``[capacity]``, a view."""
        return ops.sum_tree_leaves(self.nodes, capacity=self.capacity)

    def mass(self, priority: Tensor) -> Tensor:
        """Masses of priorities, ``[n]`` float32.

        Raises:
            RuntimeError: One is too large for sums of float32.
        """
        mass = ((priority.double() + self.epsilon) ** self.alpha).float()
        # A little less than the tree takes, whose leaves come in whole blocks of 16.
        largest = torch.finfo(torch.float32).max / (2 * (self.capacity + 16))
        wrong = mass > largest
        if wrong.any():
            raise RuntimeError(
                f"Replay.append: priority must have a mass of at most {largest}, "
                f"got {first_wrong(wrong, mass)}"
            )
        return mass

    def set(self, first: int, mass: Tensor) -> None:
        """Sets rows ``first`` and following to masses ``[n]``, n at most the capacity."""
        row = torch.arange(first, first + mass.shape[0], device=self.device)
        ops.sum_tree_update_(self.nodes, row % self.capacity, mass, capacity=self.capacity)

    def total(self) -> float:
        """The sum of all masses. On CUDA this waits for the device."""
        return float(ops.sum_tree_total(self.nodes, capacity=self.capacity))

    def clear(self, first: int, last: int) -> None:
        """Sets rows [first, last) to mass 0."""
        if first < last:
            self.set(first, torch.zeros(last - first, device=self.device))

    def draw(self, n: int, seed: int, call: int) -> tuple[Tensor, Tensor]:
        """Draws slots in proportion to their masses, stratified.

        Returns:
            ``[n]`` slots, int64, and their masses, float32.
        """
        number = torch.tensor(library.seed_of_call(seed, call))
        slot, mass, _ = torch.ops.machin_fast.sum_tree_sample.default(
            self.nodes, number, n, self.capacity, True, False
        )
        return slot, mass

    def weight(self, mass: Tensor, beta: float) -> Tensor:
        """Importance weights of rows with such masses, float32. Masses serve as probabilities:
        their total cancels out."""
        least = ops.sum_tree_minimum(self.nodes, capacity=self.capacity)
        return importance_weight(mass.double(), 1, beta, least.double()).float()

    def update(self, index: Tensor, priority: Tensor, oldest: int, appended: int) -> int:
        """Sets the priorities of rows; those before ``oldest`` are skipped.

        Args:
            index: ``[n]``, int64, in [0, appended).
            priority: ``[n]``, floating point, finite and not negative.
            oldest: The oldest row there is.
            appended: The row that comes next.

        Returns:
            How many were skipped.

        Raises:
            As ``Replay.update_priority``.
        """
        updated = None
        if self._direct:
            updated = library.replay_update(
                self.nodes, self.capacity, index, priority, oldest, appended,
                self.alpha, self.epsilon,
            )  # fmt: skip
        if updated is None:
            updated = self._update(index, priority, oldest, appended)
        stale: int
        stale, largest = updated
        self.raise_largest(largest)
        return stale

    def raise_largest(self, priority: float) -> None:
        """Takes note of the largest of priorities that were set."""
        if priority > self.largest.item():
            self.largest.fill_(priority)

    def _update(
        self, index: Tensor, priority: Tensor, oldest: int, appended: int
    ) -> tuple[int, float]:
        """As the library's ``replay_update``, on any device and for anything like a tensor."""
        op = "Replay.update_priority"
        index = torch.as_tensor(index, device=self.device)
        priority = torch.as_tensor(priority, device=self.device).detach()
        if index.dtype != torch.int64:
            raise TypeError(f"{op}: index must be int64, got {index.dtype}")
        if not priority.is_floating_point():
            raise TypeError(f"{op}: priority must be floating point, got {priority.dtype}")
        if index.dim() != 1:
            raise ValueError(f"{op}: index must be [n], got {list(index.shape)}")
        if priority.shape != index.shape:
            raise ValueError(
                f"{op}: priority must have shape {list(index.shape)}, got {list(priority.shape)}"
            )
        if not index.numel():
            return 0, 0.0
        low, high = map(int, index.aminmax())
        if low < 0 or high >= appended:
            wrong = (index < 0) | (index >= appended)
            raise IndexError(
                f"{op}: index must be in [0, {appended}), got {first_wrong(wrong, index)}"
            )
        check_priority(op, priority)
        given = index.numel()
        if low < oldest:
            alive = index >= oldest
            index, priority = index[alive], priority[alive]
        stale = given - index.numel()
        if self._zero_stays:
            drawn = self.leaves[index % self.capacity] > 0
            index, priority = index[drawn], priority[drawn]
        mass = ((priority.double() + self.epsilon) ** self.alpha).float()
        ops.sum_tree_update_(self.nodes, index % self.capacity, mass, capacity=self.capacity)
        return stale, max(priority.tolist(), default=0.0)


def check_priority(op: str, priority: Tensor) -> None:
    """Refuses priorities that are NaN, infinite or negative.

    Raises:
        ValueError: One is.
    """
    if not priority.numel():
        return
    least, most = map(float, priority.aminmax())
    if not 0 <= least <= most < math.inf:  # NaN is neither
        wrong = ~((priority >= 0) & priority.isfinite())
        raise ValueError(
            f"{op}: priority must be finite and not negative, got {first_wrong(wrong, priority)}"
        )


def first_wrong(wrong: Tensor, values: Tensor) -> str:
    """The first of ``values`` that is wrong, and where."""
    position = int(wrong.int().argmax())
    return f"{values[position].item()} at position {position}"

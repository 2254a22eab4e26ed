"""A sum tree with an identity: the ops of ``machin_fast.ops.sum_tree`` at the least cost a call."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast import ops
from machin_fast._extension import direct_calls, library


class SumTree:
    """Weights of ``capacity`` leaves, drawn from in proportion and changed in O(log N).

    Calls on CPU tensors go past torch's dispatcher, several times cheaper for small batches. The
    ``nodes`` tensor is the whole state but for the random numbers, which ``seed`` and ``calls``
    give: with the same three, sampling continues bit for bit.

    Source: Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1.

    Args:
        capacity: Number of leaves, in [1, 2^31]. All weights are 0 at first.
        dtype: float32 or float64, of the weights and sums.
        device: Where the tree lives.
        minimum: Keep the least positive weight, too.
        seed: Of the draws. None: from torch's default generator.

    Raises:
        RuntimeError: ``capacity`` or ``dtype`` is not as listed above.
    """

    def __init__(
        self,
        capacity: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        minimum: bool = False,
        seed: int | None = None,
    ) -> None:
        self.capacity = capacity
        self.nodes = ops.sum_tree_new(capacity, dtype=dtype, device=device, minimum=minimum)
        self.seed = int(torch.randint(2**63 - 1, ())) if seed is None else seed
        self.calls = 0
        self._direct = direct_calls and self.nodes.device.type == "cpu"

    def __len__(self) -> int:
        """Number of leaves."""
        return self.capacity

    @property
    def leaves(self) -> Tensor:
        """The weights, ``[capacity]``, a view. After writing into it, call ``rebuild_``."""
        return ops.sum_tree_leaves(self.nodes, capacity=self.capacity)

    def update_(self, index: Tensor | int, weight: Tensor | float) -> None:
        """Sets weights. Of a repeated index the last one stays; a bad batch changes nothing.

        Args:
            index: ``[n]``, int64, in [0, capacity), in any order; or one int.
            weight: ``[n]``, dtype of the tree, finite and not negative; or one float.

        Raises:
            RuntimeError: A shape, dtype or device differs from what is listed above, an index is
                out of range, or a weight is NaN, infinite, negative or too large.
        """
        if self._direct:
            library.sum_tree_update(self.nodes, index, weight, self.capacity)
            return
        if isinstance(index, int):
            index = torch.tensor([index], device=self.nodes.device)
            weight = self.nodes.new_tensor([weight])
        assert isinstance(weight, Tensor)
        ops.sum_tree_update_(self.nodes, index, weight, capacity=self.capacity)

    def rebuild_(self) -> None:
        """Recomputes all sums from the leaves.

        Raises:
            RuntimeError: A leaf is NaN, infinite, negative or too large.
        """
        ops.sum_tree_rebuild_(self.nodes, capacity=self.capacity)

    def sample(
        self,
        n: int,
        *,
        stratified: bool = True,
        generator: torch.Generator | None = None,
        out: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draws leaves in proportion to their weights, never one of weight 0.

        Args:
            n: Number of draws, with replacement.
            stratified: Draw i from the i-th of n equal parts of the total; else independently.
            generator: Of the CPU, to draw with instead of the tree's own seed.
            out: Three contiguous ``[n]`` tensors to write the results into.

        Returns:
            Index (int64), weight and probability (dtype of the tree), each ``[n]``.

        Raises:
            RuntimeError: No weight is positive, or ``out`` is not as listed above.
        """
        if out is None:
            index = self.nodes.new_empty(n, dtype=torch.int64)
            out = index, self.nodes.new_empty(n), self.nodes.new_empty(n)
        elif out[0].numel() != n:
            raise RuntimeError(f"SumTree.sample: out must have {n} entries, got {out[0].numel()}")
        if generator is not None:
            return ops.sum_tree_sample(
                self.nodes,
                n,
                capacity=self.capacity,
                stratified=stratified,
                generator=generator,
                out=out,
            )
        if self._direct:
            library.sum_tree_sample(
                self.nodes, self.seed, self.calls, self.capacity, stratified, *out
            )
        else:
            seed = torch.tensor(library.seed_of_call(self.seed, self.calls))
            torch.ops.machin_fast.sum_tree_sample.out(
                self.nodes, seed, self.capacity, stratified, True,
                index=out[0], weight=out[1], probability=out[2],
            )  # fmt: skip
        self.calls += 1
        return out

    def total(self) -> float:
        """The sum of all weights."""
        return self._summary()[0]

    def minimum(self) -> float:
        """The least positive weight, infinity if all are 0; NaN if the tree does not keep it."""
        return self._summary()[1]

    def _summary(self) -> tuple[float, float]:
        if self._direct:
            total, minimum = library.sum_tree_summary(self.nodes, self.capacity)
        else:
            both = torch.ops.machin_fast.sum_tree_summary.default(self.nodes, self.capacity)
            total, minimum = torch.stack(both).tolist()
        return total, minimum

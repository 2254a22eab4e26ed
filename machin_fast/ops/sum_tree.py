"""Sum trees: drawing indices in proportion to weights, and changing weights, in O(log N).

The state of a tree is one tensor, ``nodes``: levels of sums from the root block to the leaves,
each node with 16 children. It can be moved, saved, shared and put into a state dict like any
tensor. Inner nodes are always recomputed from their children, never incremented, so after any
history a tree equals one rebuilt from its leaves, bit for bit, on the CPU and on CUDA.
"""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import no_gradient, register_fake, writes_in_place

_FAN_OUT = 16
_MAX_CAPACITY = 2**31


def _level_widths(capacity: int) -> list[int]:
    """Nodes per level, leaves first, padded to whole blocks."""
    widths = []
    nodes = capacity
    while True:
        blocks = -(-nodes // _FAN_OUT)
        widths.append(blocks * _FAN_OUT)
        if blocks == 1:
            return widths
        nodes = blocks


def sum_tree_new(
    capacity: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    minimum: bool = False,
) -> Tensor:
    """The nodes of a tree whose weights are all 0.

    Source: Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1, with 16 children a node.

    Args:
        capacity: Number of leaves, in [1, 2^31].
        dtype: float32 or float64, of the weights and sums. Draws are computed in float64 anyway.
        device: Where the tree lives.
        minimum: Keep the least positive weight, too (``sum_tree_minimum``); costs 1/15 more
            memory and up to half more time per update.

    Returns:
        ``[nodes]``, zeros.

    Raises:
        RuntimeError: ``capacity`` or ``dtype`` is not as listed above.
    """
    if not 1 <= capacity <= _MAX_CAPACITY:
        raise RuntimeError(
            f"sum_tree_new: capacity must be in [1, {_MAX_CAPACITY}], got {capacity}"
        )
    if dtype not in (torch.float32, torch.float64):
        raise RuntimeError(f"sum_tree_new: dtype must be float32 or float64, got {dtype}")
    widths = _level_widths(capacity)
    size = sum(widths) + (sum(widths[1:]) if minimum else 0)
    return torch.zeros(size, dtype=dtype, device=device)


def sum_tree_leaves(nodes: Tensor, *, capacity: int) -> Tensor:
    """The weights, as a view of the tree. After writing into it, call ``sum_tree_rebuild_``.

    Source: Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1.

    Args:
        nodes: ``[nodes]``, from ``sum_tree_new(capacity)``.
        capacity: Number of leaves.

    Returns:
        ``[capacity]``, a view.

    Raises:
        RuntimeError: ``nodes`` is too short for ``capacity``.
    """
    first = sum(_level_widths(capacity)[1:])
    return nodes.narrow(0, first, capacity)


def sum_tree_update_(
    nodes: Tensor, index: Tensor, weight: Tensor, *, capacity: int, check: bool = True
) -> None:
    """Sets the weights of leaves. Of a repeated index the last weight stays, on both devices.

    The whole batch is refused before anything is written if one entry is bad.

    Source: Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1.

    Args:
        nodes: ``[nodes]``, from ``sum_tree_new(capacity)``; changed in place.
        index: ``[n]``, int64, in [0, capacity), in any order.
        weight: ``[n]``, dtype of ``nodes``, at least 0 and at most the dtype's maximum over twice
            the number of leaves, so that no total can overflow.
        capacity: Number of leaves.
        check: Raise if the batch is refused. On CUDA that waits for the device; False leaves the
            wait out, and a refused batch then changes nothing and says nothing.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, an index is out
            of range, or a weight is NaN, infinite, negative or too large.
    """
    torch.ops.machin_fast.sum_tree_update_.default(nodes, index, weight, capacity, check)


def sum_tree_rebuild_(nodes: Tensor, *, capacity: int, check: bool = True) -> None:
    """Recomputes all inner nodes from the leaves.

    Source: Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1.

    Args:
        nodes: ``[nodes]``, from ``sum_tree_new(capacity)``; changed in place.
        capacity: Number of leaves.
        check: Raise if a leaf is no weight. On CUDA that waits for the device; False leaves the
            wait out, and a tree with a bad leaf then stays as it is.

    Raises:
        RuntimeError: ``nodes`` does not fit ``capacity``, or a leaf is NaN, infinite, negative or
            too large (see ``sum_tree_update_``), or not 0 in the padding.
    """
    torch.ops.machin_fast.sum_tree_rebuild_.default(nodes, capacity, check)


def sum_tree_sample(
    nodes: Tensor,
    n: int,
    *,
    capacity: int,
    stratified: bool = True,
    generator: torch.Generator | None = None,
    check: bool = True,
    out: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws leaves in proportion to their weights. A leaf of weight 0 is never drawn.

    The same seed gives the same draws on the CPU and on CUDA.

    Source: Schaul et al. 2016, arXiv:1511.05952, section 3.3 and appendix B.2.1.

    Args:
        nodes: ``[nodes]``, from ``sum_tree_new(capacity)``.
        n: Number of draws, with replacement.
        capacity: Number of leaves.
        stratified: Draw i from the i-th of n equal parts of the total, which spreads the draws;
            else all independently.
        generator: Of the CPU; gives the seed of the draws. None: torch's default generator.
        check: Raise if the tree has no positive weight. On CUDA that waits for the device; False
            leaves the wait out, and every index is then -1.
        out: Three contiguous ``[n]`` tensors for the results.

    Returns:
        Index (int64), weight and probability = weight / total (dtype of ``nodes``), each ``[n]``.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, or the tree has
            no positive weight.
    """
    seed = torch.randint(2**63 - 1, (), generator=generator)
    if out is None:
        return torch.ops.machin_fast.sum_tree_sample.default(
            nodes, seed, n, capacity, stratified, check
        )
    if out[0].numel() != n:
        raise RuntimeError(f"sum_tree_sample: out must have {n} entries, got {out[0].numel()}")
    torch.ops.machin_fast.sum_tree_sample.out(
        nodes, seed, capacity, stratified, check,
        index=out[0], weight=out[1], probability=out[2],
    )  # fmt: skip
    return out


def sum_tree_find(nodes: Tensor, target: Tensor, *, capacity: int) -> Tensor:
    """The first leaf whose running sum of weights exceeds each target.

    A target at or past the total finds the last leaf of positive weight.

    Source: Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1.

    Args:
        nodes: ``[nodes]``, from ``sum_tree_new(capacity)``.
        target: ``[n]``, float64, not negative.
        capacity: Number of leaves.

    Returns:
        Index, ``[n]``, int64. On CUDA, which does not wait, -1 if the tree has no positive weight.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above; on the CPU also
            if a target is negative or NaN, or the tree has no positive weight.
    """
    return torch.ops.machin_fast.sum_tree_find.default(nodes, target, capacity)


def sum_tree_total(nodes: Tensor, *, capacity: int) -> Tensor:
    """The sum of all weights.

    Source: Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1.

    Args:
        nodes: ``[nodes]``, from ``sum_tree_new(capacity)``.
        capacity: Number of leaves.

    Returns:
        ``[]``, float64, on the device of ``nodes``.

    Raises:
        RuntimeError: ``nodes`` does not fit ``capacity``.
    """
    return torch.ops.machin_fast.sum_tree_summary.default(nodes, capacity)[0]


def sum_tree_minimum(nodes: Tensor, *, capacity: int) -> Tensor:
    """The least positive weight, which bounds importance weights; infinity if all are 0.

    Source: Schaul et al. 2016, arXiv:1511.05952, section 3.4.

    Args:
        nodes: ``[nodes]``, from ``sum_tree_new(capacity, minimum=True)``.
        capacity: Number of leaves.

    Returns:
        ``[]``, float64, on the device of ``nodes``.

    Raises:
        RuntimeError: ``nodes`` does not fit ``capacity``, or does not keep the minimum.
    """
    widths = _level_widths(capacity)
    if len(widths) > 1 and nodes.numel() == sum(widths):
        raise RuntimeError(
            "sum_tree_minimum: nodes must keep the minimum, got a tree without. "
            "Make it with sum_tree_new(..., minimum=True)"
        )
    return torch.ops.machin_fast.sum_tree_summary.default(nodes, capacity)[1]


def _fake_sample(
    nodes: Tensor, seed: Tensor, n: int, capacity: int, stratified: bool, check: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return nodes.new_empty(n, dtype=torch.int64), nodes.new_empty(n), nodes.new_empty(n)


def _fake_summary(nodes: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    return nodes.new_empty((), dtype=torch.float64), nodes.new_empty((), dtype=torch.float64)


register_fake("sum_tree_sample", _fake_sample)
register_fake(
    "sum_tree_find", lambda _nodes, target, *_: torch.empty_like(target, dtype=torch.int64)
)
register_fake("sum_tree_summary", _fake_summary)
writes_in_place("sum_tree_update_")
writes_in_place("sum_tree_rebuild_")
writes_in_place("sum_tree_sample.out")
no_gradient(
    "sum_tree_update_", "sum_tree_rebuild_", "sum_tree_sample", "sum_tree_sample.out",
    "sum_tree_find", "sum_tree_summary",
)  # fmt: skip

"""Trees that sample by weight: ours, those inside the peers' prioritized replays, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import load
from machin_fast import ops
from machin_fast.data import SumTree

Weights = NDArray[np.float32]

_CHUNK = 100_000


@dataclass(frozen=True)
class Tree:
    """How one library is called. ``index`` and ``weight`` turn arrays into what it takes."""

    update: Callable[[Any, Any], object]
    # sampler(n) is a call that draws n leaves; index_of finds their indices in what it returns.
    sampler: Callable[[int], Callable[[], Any]]
    index_of: Callable[[Any], Any]
    index: Callable[[NDArray[np.int64]], Any]
    weight: Callable[[Weights], Any]


def our_ops(weights: Weights, device: str) -> Tree:
    capacity = len(weights)
    nodes = ops.sum_tree_new(capacity, device=device)
    update = partial(ops.sum_tree_update_, nodes, capacity=capacity)
    return _filled(
        _on_torch(update, partial(partial, ops.sum_tree_sample, nodes, capacity=capacity), device),
        weights,
    )


def our_class(weights: Weights, device: str, *, minimum: bool = False, reuse: bool = False) -> Tree:
    tree = SumTree(len(weights), device=device, minimum=minimum)

    def sampler(n: int) -> Callable[[], Any]:
        return partial(tree.sample, n, out=tree.sample(n)) if reuse else partial(tree.sample, n)

    return _filled(_on_torch(tree.update_, sampler, device), weights)


def torch_scan(weights: Weights, device: str) -> Tree:
    """No tree: a running sum over all leaves at each draw."""
    leaves = torch.zeros(len(weights), device=device)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        sums = leaves.cumsum(0, dtype=torch.float64)
        mass = torch.rand(n, dtype=torch.float64, device=device) * sums[-1]
        index = torch.searchsorted(sums, mass)
        return index, leaves[index]

    return _filled(_on_torch(leaves.__setitem__, partial(partial, draw), device), weights)


def torchrl(weights: Weights) -> Tree:
    tree = load("torchrl._torchrl").SumSegmentTreeFp32(len(weights))

    def draw(n: int) -> Any:
        mass = np.random.uniform(0.0, tree.query(0, len(weights)), size=n)
        index = torch.as_tensor(tree.scan_lower_bound(mass))
        return index, tree[index]

    return _filled(_on_torch(tree.__setitem__, partial(partial, draw), "cpu"), weights)


def tianshou(weights: Weights) -> Tree:
    tree = load("tianshou.data").SegmentTree(len(weights))

    def draw(n: int) -> tuple[Any, Any]:
        index = tree.get_prefix_sum_idx(np.random.rand(n) * tree.reduce())
        return index, tree[index]

    return _filled(
        Tree(tree.__setitem__, partial(partial, draw), itemgetter(0), np.asarray, np.float64),
        weights,
    )


def cpprb(weights: Weights) -> Tree:
    """A replay whose transitions are one byte: it has no tree of its own to offer."""
    replay = load("cpprb").PrioritizedReplayBuffer(
        len(weights), {"nothing": {"dtype": np.uint8}}, alpha=1.0, eps=0.0
    )
    for start in range(0, len(weights), _CHUNK):
        chunk = weights[start : start + _CHUNK]
        replay.add(nothing=np.zeros(len(chunk), np.uint8), priorities=chunk)
    return Tree(
        replay.update_priorities,
        partial(partial, replay.sample),
        itemgetter("indexes"),
        lambda index: index.astype(np.uint64),
        np.asarray,
    )


def rlox(weights: Weights) -> Tree:
    """A replay whose transitions are two numbers."""
    replay = load("rlox").PrioritizedReplayBuffer(len(weights), 1, 1, alpha=1.0)
    nothing = np.zeros(1, np.float32)
    for weight in weights.tolist():
        replay.push(nothing, nothing, 0.0, False, False, nothing, weight)
    seeds = count()
    return Tree(
        replay.update_priorities,
        lambda n: lambda: replay.sample(n, next(seeds)),
        itemgetter("indices"),
        lambda index: index.astype(np.uint64),
        lambda weight: weight.astype(np.float64),
    )


def prove(tree: Tree, weights: Weights) -> None:
    """Updates a few leaves so that they hold half of the mass, and counts what is drawn.

    Raises:
        AssertionError: A share of the draws is 6 standard deviations from its expectation.
    """
    random = np.random.default_rng(0)
    truth = weights.astype(np.float64)
    touched = random.choice(len(truth), size=min(4096, len(truth) // 8), replace=False)
    new = random.random(len(touched), dtype=np.float32)
    new *= np.float32(truth.sum() / new.sum())
    tree.update(tree.index(touched), tree.weight(new))
    truth[touched] = new

    draw = tree.sampler(4096)
    # Copied at once: what cpprb returns is a view that its next sample overwrites.
    drawn = [torch.as_tensor(tree.index_of(draw())).cpu().numpy().copy() for _ in range(64)]
    index = np.concatenate(drawn).astype(np.int64)
    assert index.max() < len(truth), "an index is out of range"
    # 64 stretches of leaves, each split into the leaves that were touched and those that were not.
    group = np.arange(len(truth)) * 64 // len(truth)
    group[touched] += 64
    counts = np.bincount(group[index], minlength=128)
    expected = np.bincount(group, truth, minlength=128) * len(index) / truth.sum()
    off = np.abs(counts - expected) / np.sqrt(expected + 1)
    assert off.max() < 6, f"drawn {off.max():.0f} standard deviations off its weight"


def _on_torch(
    update: Callable[[Any, Any], object],
    sampler: Callable[[int], Callable[[], Any]],
    device: str,
) -> Tree:
    def tensor(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return Tree(update, sampler, itemgetter(0), tensor, tensor)


def _filled(tree: Tree, weights: Weights) -> Tree:
    for start in range(0, len(weights), _CHUNK):
        chunk = weights[start : start + _CHUNK]
        index = np.arange(start, start + len(chunk))
        tree.update(tree.index(index), tree.weight(chunk))
    return tree

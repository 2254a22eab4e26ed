"""Prioritized sampling without the replay around it: draws, updates, and the loop of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import trees
from benchmarks.harness import Calls, Demand, Kind, Once, Plan, Row
from benchmarks.trees import Tree, Weights, prove

# Who is held to the demands; the others of ours show what a choice costs.
JUDGED = "ours SumTree"
# Left out of updates: the first has no tree to update, which it pays for when it samples; the
# second updates like the first of ours.
SAMPLERS = ("torch-scan", "ours SumTree out=")
ADDED = 64
SAMPLED = 256

Op = Callable[[Tree, int], Calls]


def rows(plan: Plan) -> Iterator[Row]:
    capacities = (100_000,) if plan.quick else (100_000, 1_000_000, 10_000_000)
    for capacity in capacities:
        yield from _rows(capacity, plan)


def _rows(capacity: int, plan: Plan) -> Iterator[Row]:
    # Skewed like TD errors, and never zero.
    weights = np.random.default_rng(0).gamma(0.6, size=capacity).astype(np.float32) + 1e-3
    forest = {
        name: (kind, Once(partial(_proven, build, weights)))
        for name, (kind, build) in _builders(plan).items()
    }
    for op, items, build, demands in _operations(capacity, plan):
        row = Row(f"capacity {capacity:.0e}".replace("e+0", "e"), op, plan, items=items)
        for name, (kind, tree) in forest.items():
            if op.startswith("update") and name in SAMPLERS:
                continue
            row.add(
                name,
                partial(_calls, build, tree, capacity),
                kind,
                demands=demands if name == JUDGED and plan.device == "cpu" else (),
            )
        if op == "update 1":
            numbers = partial(_calls, _update_numbers, forest[JUDGED][1], capacity)
            row.add(f"{JUDGED} numbers", numbers, Kind.OURS)
        yield row


def _builders(plan: Plan) -> dict[str, tuple[Kind, Callable[[Weights], Tree]]]:
    ours = partial(trees.our_class, device=plan.device)
    builders: dict[str, tuple[Kind, Callable[[Weights], Tree]]] = {
        JUDGED: (Kind.OURS, ours),
        "ours SumTree out=": (Kind.OURS, partial(ours, reuse=True)),
        "ours SumTree minimum": (Kind.OURS, partial(ours, minimum=True)),
        "ours ops": (Kind.OURS, partial(trees.our_ops, device=plan.device)),
        "torch-scan": (Kind.PLAIN, partial(trees.torch_scan, device=plan.device)),
    }
    if plan.device == "cpu":
        builders |= {
            "torchrl": (Kind.LIBRARY, trees.torchrl),
            "tianshou": (Kind.LIBRARY, trees.tianshou),
            "cpprb": (Kind.LIBRARY, trees.cpprb),
            "rlox": (Kind.LIBRARY, trees.rlox),
        }
    return builders


def _operations(capacity: int, plan: Plan) -> Iterator[tuple[str, int, Op, tuple[Demand, ...]]]:
    """Name, leaves handled, calls and demands of each operation."""
    large = capacity >= 10_000_000
    for n in (1, 256) if plan.quick else (1, 256, 1024, 32768):
        yield f"sample {n}", n, partial(_sample, n), (Demand(2.5),) if n > 1 else ()
    for n in (1, 256) if plan.quick else (1, 64, 256, 1024, 32768):
        single = (Demand(3, "torchrl"), Demand(1 / 1.5, "rlox"))
        several = (Demand(3 if large or n > 1024 else 1.5),)
        yield f"update {n}", n, partial(_update, n), single if n == 1 else several
    op = f"loop add {ADDED}, sample {SAMPLED}, update {SAMPLED}"
    yield op, SAMPLED, _loop, (Demand(3),)


def _proven(build: Callable[[Weights], Tree], weights: Weights) -> Tree:
    tree = build(weights)
    prove(tree, weights)
    return tree


def _calls(op: Op, tree: Once[Tree], capacity: int) -> Calls:
    return op(tree(), capacity)


def _sample(n: int, tree: Tree, capacity: int) -> Calls:
    return Calls(tree.sampler(n))


def _update(n: int, tree: Tree, capacity: int) -> Calls:
    index = np.random.default_rng(1).integers(capacity, size=(_sets(n), n))
    indices = cycle([tree.index(x) for x in index])
    return Calls(tree.update, zip(indices, _weights(tree, n), strict=False))


def _update_numbers(tree: Tree, capacity: int) -> Calls:
    """One leaf, given as Python numbers."""
    random = np.random.default_rng(1)
    index = random.integers(capacity, size=_sets(1)).tolist()
    weight = random.random(_sets(1) + 1).tolist()
    return Calls(tree.update, zip(cycle(index), cycle(weight), strict=False))


def _loop(tree: Tree, capacity: int) -> Calls:
    update, index_of, sample = tree.update, tree.index_of, tree.sampler(SAMPLED)

    def run(added: Any, first: Any, then: Any) -> None:
        update(added, first)
        update(index_of(sample()), then)

    ring = np.arange(ADDED * min(1024, capacity // ADDED)).reshape(-1, ADDED)
    added = cycle([tree.index(x) for x in ring])
    weights = (_weights(tree, ADDED), _weights(tree, SAMPLED))
    return Calls(run, zip(added, *weights, strict=False))


def _weights(tree: Tree, n: int) -> Iterator[Any]:
    """One set more than there are index sets, so that no pair of both comes back soon.

    cpprb, for one, skips the climb when a leaf is given the weight it has.
    """
    weights: NDArray[np.float64] = np.random.default_rng(2).gamma(0.6, size=(_sets(n) + 1, n))
    return cycle([tree.weight(x) for x in weights.astype(np.float32)])


def _sets(n: int) -> int:
    """Enough sets to touch more lines of memory than caches hold."""
    return min(4096, max(8, 2**21 // n))

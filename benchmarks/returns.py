"""What the benchmarks of return estimators share: proof of results, our two candidates, demands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Calls, Demand, Kind, Plan, Row
from benchmarks.rollouts import Rollout

GAMMA = 0.99
LAM = 0.95

# Turns what a candidate returns into arrays of the rollout's shape, in the order of `expected`.
Read = Callable[[Any], Sequence[Any]]


def proven(
    run: Callable[[], object], expected: Sequence[Any], read: Read = lambda got: got
) -> Calls:
    """``run`` if its results are the expected ones, to what float32 can hold.

    Raises:
        AssertionError: They are not.
    """
    for got, want in zip(read(run()), expected, strict=True):
        got = got.cpu() if isinstance(got, torch.Tensor) else got
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-3, atol=1e-3)
    return Calls(run)


def estimator_row(op: str, data: Rollout, plan: Plan) -> Row:
    return Row(data.name, op, plan, items=data.reward.size)


def add_ours(
    row: Row,
    op: Callable[..., Any],
    data: Rollout,
    names: tuple[str, ...],
    expected: Sequence[Any],
    demands: Callable[[str], tuple[Demand, ...]] = lambda suffix: (),
    **parameters: Any,
) -> None:
    """Our op with fresh outputs, and with the outputs of an earlier call."""
    inputs = data.tensors(names, row.plan.device)
    bounds = None if data.bounds is None else torch.from_numpy(data.bounds)
    fresh = partial(op, *inputs, bounds=bounds, **parameters)
    reused = partial(fresh, out=fresh())

    def read(got: Any) -> Sequence[Any]:
        return got if isinstance(got, tuple) else (got,)

    for name, run in (("ours", fresh), ("ours out=", reused)):
        row.add(
            name,
            partial(proven, run, expected, read),
            Kind.OURS,
            demands=demands(name.removeprefix("ours")) if row.plan.device == "cpu" else (),
        )


def usual_demands(data: Rollout) -> Callable[[str], tuple[Demand, ...]]:
    """For ``[steps, envs]``: like against like, so fresh outputs against fresh ones."""

    def demands(suffix: str) -> tuple[Demand, ...]:
        if data.flat or data.reward.size == 1:
            return ()
        return (Demand(3, f"numba-user{suffix}"), Demand(4, "library"))

    return demands


def add_numba(
    row: Row,
    name: str,
    kernel: Callable[[], Callable[..., Any]],
    inputs: Sequence[Any],
    outputs: int,
    expected: Sequence[Any],
) -> None:
    """A hand-written numba kernel, with fresh outputs and with reused ones.

    ``kernel`` compiles; the compiled function takes the inputs, then the outputs it fills.
    """
    like = inputs[0]

    def fresh() -> Calls:
        compiled = kernel()

        def run() -> Sequence[Any]:
            results = [np.empty_like(like) for _ in range(outputs)]
            compiled(*inputs, *results)
            return results

        return proven(run, expected)

    def reused() -> Calls:
        results = [np.empty_like(like) for _ in range(outputs)]
        run = partial(kernel(), *inputs, *results)
        return proven(run, expected, lambda _: results)

    row.add(name, fresh, Kind.PLAIN)
    row.add(f"{name} out=", reused, Kind.PLAIN)

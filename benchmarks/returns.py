"""What the benchmarks of return estimators share: their candidates, proof of results, demands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Calls, Demand, Kind, Row
from benchmarks.peers import load
from benchmarks.rollouts import Rollout

GAMMA = 0.99
LAM = 0.95

# Expected results, float64 and shaped like the rollout.
Expected = Sequence[Any]
Demands = tuple[Demand, ...]


def proven(
    run: Callable[[], object], expected: Expected, read: Callable[[Any], Sequence[Any]] = list
) -> Calls:
    """``run``, if what ``read`` makes of its results is what is expected, to float32.

    Raises:
        AssertionError: It is not.
    """
    for got, want in zip(read(run()), expected, strict=True):
        got = got.cpu() if isinstance(got, Tensor) else got
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-3, atol=1e-3)
    return Calls(run)


def one(got: Any) -> Sequence[Any]:
    """Reads a single result."""
    return [got]


def no_demands(suffix: str) -> Demands:
    return ()


def usual_demands(data: Rollout, *, library: bool = True) -> Callable[[str], Demands]:
    """Of ``[steps, envs]``; like against like, so fresh outputs against fresh ones.

    ``library``: whether there is one that offers this estimator.
    """
    if data.flat or data.reward.size == 1:
        return no_demands
    over_library = (Demand(4, "library"),) if library else ()
    return lambda suffix: (Demand(3, f"numba-user{suffix}"), *over_library)


def add_ours(
    row: Row,
    op: Callable[..., Any],
    inputs: Sequence[Tensor | None],
    data: Rollout,
    expected: Expected,
    demands: Callable[[str], Demands],
    **parameters: Any,
) -> None:
    """Our op with fresh outputs, and with the outputs of an earlier call."""
    bounds = None if data.bounds is None else torch.from_numpy(data.bounds)
    fresh = partial(op, *inputs, bounds=bounds, **parameters)
    reused = partial(fresh, out=fresh())
    for suffix, run in (("", fresh), (" out=", reused)):
        row.add(
            f"ours{suffix}",
            partial(proven, run, expected, one if len(expected) == 1 else list),
            Kind.OURS,
            demands=demands(suffix) if row.plan.device == "cpu" else (),
        )


def add_torch_loop(
    row: Row,
    run: Callable[..., object],
    inputs: Sequence[Tensor],
    data: Rollout,
    expected: Expected,
) -> None:
    """Not on a flat stream, where a loop of Python over 1e6 steps takes seconds."""
    if not data.flat:
        build = partial(proven, partial(run, *inputs), expected)
        row.add("torch-loop", build, Kind.PLAIN)


def add_jax(
    row: Row, function: Callable[..., object], inputs: Expected, expected: Expected
) -> None:
    """``function`` of float32 arrays, under ``jax.jit``."""

    def build() -> Calls:
        jax = load("jax")
        arrays = [jax.numpy.asarray(x, dtype="float32") for x in inputs]
        jitted = jax.jit(function)
        return proven(lambda: jax.block_until_ready(jitted(*arrays)), expected)

    row.add("jax-scan", build, Kind.PLAIN)


def torchrl(
    function: str, parameters: tuple[float, ...], names: tuple[str, ...], data: Rollout
) -> Callable[..., Any]:
    """An estimator of torchrl, on its layout ``[envs, steps, 1]``.

    Raises:
        PeerError: torchrl does not import.
    """
    estimate = getattr(load("torchrl.objectives.value.functional"), function)
    inputs = [torch.from_numpy(data.env_major(getattr(data, name))[..., None]) for name in names]
    return partial(estimate, *parameters, *inputs)

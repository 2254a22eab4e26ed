"""Honest timing.

* Correct before fast: a candidate proves its results against a float64 reference when it is
  built; one that fails is reported and not timed.
* All candidates take turns within each repeat, in alternating order, so that a busy neighbour or
  a clock that slows down hits all of them alike.
* Inputs vary between calls: the same (index, priority) pairs again would let some peers skip work.
* Figures are the median over repeats and its spread, the interquartile range over the median.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

import torch

from benchmarks.peers import PeerError

T = TypeVar("T")

# Beyond this spread a row is measured again.
CALM = 0.3


class Kind(Enum):
    OURS = "ours"
    LIBRARY = "library"
    # What a user writes by hand: plain torch, numba, jax.
    PLAIN = "plain"


@dataclass(frozen=True)
class Plan:
    """What the caller asked for."""

    quick: bool = False
    threads: int = 1
    device: str = "cpu"
    # Of stems of several algorithms, this one. None: all.
    algorithm: str | None = None


@dataclass(frozen=True)
class Demand:
    """Ours must be ``ratio`` times as fast as ``over``.

    ``over`` is a peer's name, ``library`` (the best library) or ``peer`` (the best of all peers).
    """

    ratio: float
    over: str = "peer"


@dataclass(frozen=True)
class Calls:
    """What is timed: ``run(*args)``, with the next ``args`` of an endless stream at each call."""

    run: Callable[..., object]
    inputs: Iterator[tuple[Any, ...]] = field(default_factory=lambda: itertools.repeat(()))


@dataclass(frozen=True)
class Candidate:
    name: str
    kind: Kind
    calls: Calls
    threads: int
    demands: tuple[Demand, ...]


@dataclass(frozen=True)
class Timing:
    candidate: Candidate
    nanoseconds: float
    spread: float
    repeats: int


@dataclass(frozen=True)
class Footprint:
    """Memory that something takes for each transition that it stores."""

    case: str
    candidate: str
    needed_bytes: int
    held_bytes: float
    # held over needed, at most
    most: float

    @property
    def ratio(self) -> float:
        return self.held_bytes / self.needed_bytes

    @property
    def met(self) -> bool:
        return self.ratio <= self.most


@dataclass(frozen=True)
class Goal:
    """How long one training took to reach its goal."""

    case: str
    candidate: str
    seed: int
    goal: float
    reached: bool
    seconds: float
    steps: int
    score: float


class Once(Generic[T]):
    """Builds a thing at its first use and keeps it; a failed build fails again at each use."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._thing: T | None = None
        self._error: Exception | None = None

    def __call__(self) -> T:
        if self._error is not None:
            raise self._error
        if self._thing is None:
            try:
                self._thing = self._build()
            except Exception as error:
                self._error = error
                raise
        return self._thing


class Row:
    """One operation on one size, and everyone who can do it."""

    def __init__(self, case: str, op: str, plan: Plan, *, items: int) -> None:
        self.case = case
        self.op = op
        self.plan = plan
        self.items = items
        self.candidates: list[Candidate] = []
        self.missing: dict[str, str] = {}
        self.wrong: dict[str, str] = {}

    def add(
        self,
        name: str,
        build: Callable[[], Calls],
        kind: Kind = Kind.LIBRARY,
        *,
        threads: int | None = None,
        demands: tuple[Demand, ...] = (),
    ) -> None:
        """Lets a candidate in. ``build`` returns its calls once their results are proven.

        A build that raises ``PeerError`` or ``AssertionError`` is noted and left out.
        """
        threads = threads or self.plan.threads
        try:
            calls = build()
        except PeerError as error:
            self.missing[name] = str(error)
        except AssertionError as error:
            self.wrong[name] = " ".join(str(error).split())[:200]
        else:
            self.candidates.append(Candidate(name, kind, calls, threads, demands))


def measure(row: Row) -> list[Timing]:
    """Times the candidates of ``row``; again, at most twice, while the machine is restless."""
    attempts = 1 if row.plan.quick else 3
    best = _measure(row)
    for _ in range(attempts - 1):
        if _restlessness(best) <= CALM:
            break
        best = min(best, _measure(row), key=_restlessness)
    return best


def _restlessness(timings: list[Timing]) -> float:
    """The worst spread among those that decide a ratio: ours and the best peer."""
    peers = [t for t in timings if t.candidate.kind is not Kind.OURS]
    best_peer = min(peers, key=lambda t: t.nanoseconds, default=None)
    return max(
        (t.spread for t in timings if t.candidate.kind is Kind.OURS or t is best_peer), default=0.0
    )


def _measure(row: Row) -> list[Timing]:
    block_ns, most, least = (1e6, 15, 3) if row.plan.quick else (4e6, 51, 5)
    budget_ns = 3e7 if row.plan.quick else 2e8  # for each candidate
    clock = _cuda_block if row.plan.device == "cuda" else _cpu_block

    calls: list[int] = []
    strides: list[int] = []
    for candidate in row.candidates:
        call_ns = _warm_up(candidate, clock)
        calls.append(max(1, round(block_ns / call_ns)))
        # A slow candidate sits out some repeats, evenly, instead of stealing everyone's time. An
        # odd stride, so that it meets both orders.
        repeats = min(most, max(least, int(budget_ns / (call_ns * calls[-1]))))
        strides.append(most // repeats | 1)

    samples: list[list[float]] = [[] for _ in row.candidates]
    gc.collect()
    gc.disable()
    try:
        for repeat in range(most):
            order = range(len(row.candidates))
            for i in order if repeat % 2 else reversed(order):
                if repeat % strides[i] == 0:
                    torch.set_num_threads(row.candidates[i].threads)
                    samples[i].append(clock(row.candidates[i].calls, calls[i]))
    finally:
        gc.enable()
        torch.set_num_threads(row.plan.threads)
    return [
        Timing(candidate, statistics.median(s), _spread(s), len(s))
        for candidate, s in zip(row.candidates, samples, strict=True)
    ]


def _warm_up(candidate: Candidate, clock: Callable[[Calls, int], float]) -> float:
    """Nanoseconds a call, after compilers, caches and the allocator have seen it."""
    torch.set_num_threads(candidate.threads)
    clock(candidate.calls, 1)
    count = max(1, min(1000, math.ceil(1e6 / clock(candidate.calls, 1))))
    return min(clock(candidate.calls, count) for _ in range(2))


def _cpu_block(calls: Calls, count: int) -> float:
    run = calls.run
    start = time.perf_counter_ns()
    for args in itertools.islice(calls.inputs, count):
        run(*args)
    return (time.perf_counter_ns() - start) / count


def _cuda_block(calls: Calls, count: int) -> float:
    start: Any = torch.cuda.Event(enable_timing=True)
    end: Any = torch.cuda.Event(enable_timing=True)
    start.record()
    for args in itertools.islice(calls.inputs, count):
        calls.run(*args)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e6 / count


def _spread(samples: list[float]) -> float:
    if len(samples) < 4:
        return (max(samples) - min(samples)) / statistics.median(samples)
    low, _, high = statistics.quantiles(samples, n=4)
    return (high - low) / statistics.median(samples)

"""Where the time of a loop goes."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

OTHER = "other"
OPAQUE = "evaluate"
"""Nothing within this stage counts as another: what it does is no training."""

_NOTHING = nullcontext()


class Stage:
    """One part of a loop.

    Attributes:
        name: Of the stage.
        seconds: Time in it, without that in other stages within.
        calls: How often it was entered.
        bytes: Handed over in it, as far as anybody says.
    """

    __slots__ = ("bytes", "calls", "name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.0
        self.calls = 0
        self.bytes = 0


class Span(NamedTuple):
    """One stay in a stage: when it was entered, by ``time.perf_counter``, and for how long."""

    name: str
    begin: float
    seconds: float


class Stages:
    """Adds up time by stage. At each moment one stage is the present one, so that no time counts
    twice; outside of all of them it is "other".

    It reads the clock of the thread that made it; other threads change nothing. CUDA kernels run
    behind it: their time shows up in the stage that waits for them.

    Args:
        most_spans: Of so many stays in stages it is kept when they were.

    Attributes:
        spans: These, in the order in which they ended.
        spans_left_out: Number of further ones.
        beginning: When time began to count, by ``time.perf_counter``.
    """

    def __init__(self, *, most_spans: int = 0) -> None:
        self.spans: list[Span] = []
        self.spans_left_out = 0
        self._most_spans = most_spans
        self._stages: dict[str, Stage] = {}
        self._thread = threading.get_ident()
        self._around: list[tuple[Stage, float]] = []
        self._present = self[OTHER]
        self.beginning = self._last = self._entered = time.perf_counter()

    def __getitem__(self, name: str) -> Stage:
        """The stage of this name; a new one if there is none."""
        stage = self._stages.get(name)
        if stage is None:
            stage = self._stages[name] = Stage(name)
        return stage

    def counts_here(self) -> bool:
        """Whether stages are told apart at this moment, in this thread."""
        return self._present.name != OPAQUE and threading.get_ident() == self._thread

    def enter(self, name: str) -> bool:
        """Makes a stage the present one, until ``leave``.

        Args:
            name: Of the stage.

        Returns:
            False if it already was, or if stages are not told apart: then nobody must leave it.
        """
        present = self._present
        if present.name in (name, OPAQUE) or threading.get_ident() != self._thread:
            return False
        now = time.perf_counter()
        present.seconds += now - self._last
        self._around.append((present, self._entered))
        stage = self._stages.get(name) or self[name]
        stage.calls += 1
        self._present = stage
        self._last = self._entered = now
        return True

    def leave(self) -> None:
        """Goes back to the stage that was entered before."""
        stage, entered = self._present, self._entered
        now = time.perf_counter()
        stage.seconds += now - self._last
        self._last = now
        self._present, self._entered = self._around.pop()
        if len(self.spans) < self._most_spans:
            self.spans.append(Span(stage.name, entered, now - entered))
        elif self._most_spans:
            self.spans_left_out += 1

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """Within it the stage of this name is the present one.

        Args:
            name: Any text; a new one begins a stage.

        Returns:
            To enter with ``with``.
        """
        return _Stay(self, name)

    def begin(self) -> None:
        """Time counts from now on, not from when this was made."""
        self.beginning = self._last = self._entered = time.perf_counter()

    def end(self) -> None:
        """Time counts up to now."""
        now = time.perf_counter()
        self._present.seconds += now - self._last
        self._last = now

    def seconds(self) -> float:
        """Time since the beginning, up to the last change of stages."""
        return self._last - self.beginning

    def items(self) -> list[tuple[str, Stage]]:
        """Names and stages that were entered, in the order in which they first were; then
        "other"."""
        entered = [pair for pair in self._stages.items() if pair[0] != OTHER]
        return [*entered, (OTHER, self._stages[OTHER])]


class _Stay(AbstractContextManager[None]):
    """A stay in a stage; half as dear as a generator that does the same."""

    __slots__ = ("_entered", "_name", "_stages")

    def __init__(self, stages: Stages, name: str) -> None:
        self._stages = stages
        self._name = name

    def __enter__(self) -> None:
        self._entered = self._stages.enter(self._name)

    def __exit__(self, *_: object) -> None:
        if self._entered:
            self._stages.leave()


# -- who counts at present -----------------------------------------------------------------------

_counting: Stages | None = None


def stage(name: str) -> AbstractContextManager[None]:
    """Marks a part of a loop for whoever profiles it; does nothing when nobody does.

    Args:
        name: Of the stage: env, act, store, sample, learn, priorities, sync, evaluate, or another.

    Returns:
        To enter with ``with``.
    """
    return _NOTHING if _counting is None else _counting(name)


def set_counting(stages: Stages | None) -> Stages | None:
    """Says who counts from now on.

    Args:
        stages: They do; None: nobody.

    Returns:
        Who did before.
    """
    global _counting
    before, _counting = _counting, stages
    return before

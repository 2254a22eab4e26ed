"""How far a training run is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Reason: TypeAlias = Literal["goal", "budget", "stopped", "interrupted", "error"]


@dataclass
class Progress:
    """What a run has done so far, with all that was done before it was resumed.

    Attributes:
        steps: Environment steps, of all environments together.
        updates: Calls of ``update``.
        episodes: Training episodes that ended.
        seconds: Time in ``train``.
        evaluations: Of each evaluation the step and the mean return.
    """

    steps: int = 0
    updates: int = 0
    episodes: int = 0
    seconds: float = 0.0
    evaluations: list[tuple[int, float]] = field(default_factory=list)

    @property
    def score(self) -> float | None:
        """Mean return of the last evaluation; None if there was none."""
        return self.evaluations[-1][1] if self.evaluations else None

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and mean return of the first of the best evaluations; None if there was none."""
        known = [each for each in self.evaluations if not math.isnan(each[1])]
        return max(known, key=lambda each: each[1]) if known else None

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {**vars(self), "evaluations": [list(each) for each in self.evaluations]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where ``state_dict`` was taken."""
        for name in vars(self):
            setattr(self, name, state[name])
        self.evaluations = [(step, score) for step, score in state["evaluations"]]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        reason: Why it ended: the goal was reached; the budget of steps is spent; a hook stopped
            it; Ctrl-C did; something was raised.
        message: What the hook said, or the error.
        progress: How far it is.
    """

    reason: Reason
    message: str
    progress: Progress

"""What a training run may be told. No torch in here: the command line reads it for ``--help``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Settings:
    """How to train: numbers that do not depend on the algorithm.

    Attributes:
        steps: Environment steps to take, in all environments together.
        goal: Mean return of an evaluation that ends the run. None: it takes all its steps.
        rollout: Steps in each environment between two phases of learning.
        updates: Calls of ``update`` in a phase. What learns on policy needs one.
        warm_up: Environment steps before the first phase.
        reward_steps: Rewards to sum before the value of a later state is trusted.
        epsilon_start, epsilon_end: Share of random actions at first and at last, for algorithms
            that have an ``epsilon``.
        epsilon_steps: Environment steps over which it falls. 0: it is at its end at once.
        noise: Deviation of the noise on actions, in halves of their range, for algorithms that
            explore by it.
        evaluation_every: Environment steps between evaluations. 0: none.
        evaluation_episodes: Episodes of an evaluation, at least.
        checkpoint_every: Environment steps between checkpoints. 0: one at the end alone.
        checkpoints_kept: How many stay, the newest; the best is kept besides.
        log_every: Environment steps that a line of ``metrics.jsonl`` sums up.
        check_finite: Refuse NaN and infinite numbers in what is observed, done, rewarded and
            learned, and say where they came up.
        exact_resume: Episodes begin anew at each checkpoint, in the run that goes on as in one
            that is resumed there, so that both take the same steps. Without it a resumed run
            begins new episodes, and the other one does not.
        seed: Of the environments. Those of evaluations have seeds from 1,000,000 higher on.

    Raises:
        ValueError: A number is out of its range.
    """

    steps: int = 100_000
    goal: float | None = None
    rollout: int = 16
    updates: int = 1
    warm_up: int = 0
    reward_steps: int = 1
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 10_000
    noise: float = 0.1
    evaluation_every: int = 2_000
    evaluation_episodes: int = 20
    checkpoint_every: int = 10_000
    checkpoints_kept: int = 3
    log_every: int = 1_000
    check_finite: bool = False
    exact_resume: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = (
            "steps", "rollout", "updates", "reward_steps", "evaluation_episodes",
            "checkpoints_kept", "log_every",
        )  # fmt: skip
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                least = 1 if field.name in at_least_one else 0
                if isinstance(value, bool) or not isinstance(value, int) or value < least:
                    raise ValueError(
                        f"Settings: {field.name} must be a whole number, at least {least}, "
                        f"got {value!r}"
                    )
        for name in ("epsilon_start", "epsilon_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Settings: {name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"Settings: noise must be at least 0, got {self.noise}")
        if self.goal is not None and math.isnan(self.goal):
            raise ValueError(f"Settings: goal must be a number, got {self.goal}")
        if self.goal is not None and not self.evaluation_every:
            raise ValueError(
                f"Settings: evaluation_every must be at least 1 to reach a goal of {self.goal}, "
                "got 0"
            )

    def epsilon(self, step: int) -> float:
        """The share of random actions after so many environment steps."""
        if step >= self.epsilon_steps:
            return self.epsilon_end
        part = step / self.epsilon_steps
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * part

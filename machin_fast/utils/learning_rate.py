"""Learning rates that change with the step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from logging import Logger


def gen_learning_rate_func(
    lr_map: Sequence[tuple[int, float]], logger: Logger | None = None
) -> Callable[[int], float]:
    """A learning rate that is constant between given steps.

    ``LambdaLR`` multiplies the optimizer's own rate by it: give that one ``lr=1``, or give factors
    here.

    Args:
        lr_map: ``(step, rate)`` pairs by ascending step: from that step on it is that rate.
        logger: Told the rate at each call.

    Returns:
        The rate by step; before the first one the first rate.

    Raises:
        ValueError: There is no pair, or the steps do not ascend.
    """
    steps = [step for step, _ in lr_map]
    rates = [rate for _, rate in lr_map]
    if not steps or any(a >= b for a, b in pairwise(steps)):
        raise ValueError(
            f"gen_learning_rate_func: lr_map must have one or more ascending steps, got {steps}"
        )

    def rate_at(step: int) -> float:
        rate = rates[max(bisect_right(steps, step) - 1, 0)]
        if logger is not None:
            logger.info(f"Current learning rate:{rate}")
        return rate

    return rate_at

"""Returns and advantages."""

from __future__ import annotations

from machin_fast import ops
from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import (
    check_unit,
    floating,
    following,
    knows_next,
    scalars,
)
from machin_fast.data.transforms.chain import Transform

_CURE = "Apply transforms.values(critic) first"


def discounted_return(gamma: float, name: str = "discounted_return") -> Transform:
    """Adds discounted sums of rewards to the end of each segment.

    A segment that does not end terminated goes on with the discounted ``next_value`` of its last
    step if there is one (``values`` adds it), else with 0.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 3.9.

    Args:
        gamma: Discount per step, in [0, 1].
        name: Of the new column.

    Returns:
        The transform. The column is ``[N]``, dtype of ``next_value`` or else of ``reward``;
        float32 if that is neither float32 nor float64.

    Raises:
        ValueError: ``gamma`` is out of its range. By the transform: there is no ``reward [N]``.
    """
    op = "transforms.discounted_return"
    check_unit(op, gamma=gamma)

    def transform(trajectory: Trajectory) -> Trajectory:
        reward = scalars(op, trajectory, "reward")
        next_value = None
        if knows_next(trajectory, "value") and "value" in trajectory:
            next_value = floating(trajectory.next("value"))
        result = ops.discounted_return(
            floating(reward) if next_value is None else reward.to(next_value.dtype),
            next_value,
            trajectory.flag("terminated"),
            trajectory.flag("truncated"),
            gamma=gamma,
            bounds=trajectory.bounds,
        )
        return trajectory.with_columns(**{name: result})

    return transform


def gae(gamma: float, lam: float) -> Transform:
    """Adds ``advantage``, generalized advantage estimates, and ``value_target``, lambda-returns.

    A terminated step has no next value; whatever else ends a segment keeps it. All end the trace.

    Source: Schulman et al. 2016, arXiv:1506.02438, equation 16.

    Args:
        gamma: Discount per step, in [0, 1].
        lam: Trace decay per step, in [0, 1]. 0 gives TD(0), 1 Monte Carlo.

    Returns:
        The transform. Both columns are ``[N]``, dtype of ``value``; float32 if that is neither
        float32 nor float64.

    Raises:
        ValueError: A number is out of its range. By the transform: there is no ``reward [N]`` or
            ``value [N]``, or the value behind a segment that does not end terminated is not known.
    """
    op = "transforms.gae"
    check_unit(op, gamma=gamma, lam=lam)

    def transform(trajectory: Trajectory) -> Trajectory:
        value = floating(scalars(op, trajectory, "value", _CURE))
        advantage, value_target = ops.gae(
            scalars(op, trajectory, "reward").to(value.dtype),
            value,
            following(op, trajectory, "value", _CURE).to(value.dtype),
            trajectory.flag("terminated"),
            trajectory.flag("truncated"),
            gamma=gamma,
            lam=lam,
            bounds=trajectory.bounds,
        )
        return trajectory.with_columns(advantage=advantage, value_target=value_target)

    return transform

"""Values of states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import (
    check_all_terminated,
    check_positive,
    final,
    shifted,
)
from machin_fast.data.transforms._networks import evaluate, inputs
from machin_fast.data.transforms.chain import Transform


def values(
    critic: Callable[..., Any],
    name: str = "value",
    *,
    observation: str = "state",
    batch_size: int | None = None,
) -> Transform:
    """Adds V of each step's state, and of the state that followed it.

    One forward, without gradient, of all rows and of what followed the segments; the value of
    what followed any other step is the next row's. Where the observations that followed are
    columns of their own, these take a second forward. The critic's mode (train, eval) is left
    alone. Segments that end terminated have no next value: nobody reads it, and it is 0 if what
    followed them is not known.

    Source: none, these are the critic's.

    Args:
        critic: Called with the column ``observation``, or with the columns nested in it as
            keyword arguments, those that its ``forward`` takes. Returns ``[n, 1]`` or ``[n]``, or
            a tuple that begins with it.
        name: Of the new column; what followed is ``trajectory.next(name)``.
        observation: Name of the critic's input.
        batch_size: Most rows a forward, to bound memory. None: all at once.

    Returns:
        The transform. The column is ``[N]``, dtype of the critic.

    Raises:
        ValueError: ``batch_size`` is below 1. By the transform: the observation is missing, what
            followed a segment that does not end terminated is not known, or the critic takes or
            returns something else.
    """
    op = "transforms.values"
    check_positive(op, batch_size=batch_size)

    def transform(trajectory: Trajectory) -> Trajectory:
        takes = inputs(op, critic, trajectory, observation)
        rows = {each: trajectory[each] for each in takes}
        if any(f"next_{each}" in trajectory for each in takes):
            after = {each: trajectory.next(each) for each in takes}
            value = evaluate(op, critic, takes, [rows], batch_size)
            next_value = evaluate(op, critic, takes, [after], batch_size)
        elif all(each in trajectory.final for each in takes):
            last = {each: final(trajectory, each) for each in takes}
            both = evaluate(op, critic, takes, [rows, last], batch_size)
            value, last_value = both.split([len(trajectory), trajectory.segments])
            next_value = shifted(trajectory, value, last_value)
        else:
            cure = f"Make the trajectory with next_{observation}"
            check_all_terminated(op, trajectory, observation, cure)
            value = evaluate(op, critic, takes, [rows], batch_size)
            next_value = shifted(trajectory, value, 0)
        return trajectory.with_columns(**{name: value, f"next_{name}": next_value})

    return transform

"""Sums of n rewards."""

from __future__ import annotations

from machin_fast import ops
from machin_fast.data.columns import take_rows
from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import check_positive, check_unit, floating, scalars
from machin_fast.data.transforms.chain import Transform


def nstep(n: int, gamma: float) -> Transform:
    """Replaces each reward by the discounted sum of n, and what followed by what came after those.

    The target of a row is then ``reward + discount * V(next_state)`` (``functional.td_target``).
    ``discount``, a new column, is gamma to the number of rewards summed, and 0 where the episode
    terminated within: with it a learner needs no flags. Fewer than n rewards are summed where a
    segment ends: unless terminated, its target goes on from the segment's own end. ``terminated``
    and ``truncated`` still tell of the row itself, not of the last reward summed.

    All that is known of what followed a step (``next(name)``: states, and values if they were
    added) is moved to the end of its n steps.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 7.1.

    Args:
        n: Most rewards to sum, at least 1.
        gamma: Discount per step, in [0, 1].

    Returns:
        The transform. ``reward`` and ``discount`` are ``[N]``, dtype of ``reward``; float32 if
        that is neither float32 nor float64.

    Raises:
        ValueError: A number is out of its range. By the transform: there is no ``reward [N]``, a
            ``discount`` is there already, or what followed the segments is not known.
    """
    op = "transforms.nstep"
    check_positive(op, n=n)
    check_unit(op, gamma=gamma)

    def transform(trajectory: Trajectory) -> Trajectory:
        reward = floating(scalars(op, trajectory, "reward"))
        if "discount" in trajectory:
            raise ValueError(
                f"{op}: trajectory must have no discount yet, got {', '.join(trajectory.columns)}"
            )
        # Whatever has next_<name> as a column has its last rows in final as well.
        if not trajectory.final:
            raise ValueError(
                f"{op}: trajectory must know what followed its segments, got nothing. "
                "Make it with next_<observation>"
            )
        reward_sum, discount, last_row = ops.nstep_return(
            reward,
            trajectory.flag("terminated"),
            trajectory.flag("truncated"),
            gamma=gamma,
            n=n,
            bounds=trajectory.bounds,
        )
        after = {f"next_{name}": trajectory.next(name) for name in trajectory.final}
        return trajectory.with_columns(
            reward=reward_sum, discount=discount, **take_rows(after, last_row)
        )

    return transform

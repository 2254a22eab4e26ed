"""Hindsight: as if what was reached had been the goal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from machin_fast.data.columns import take_rows
from machin_fast.data.trajectory import Trajectory, concat
from machin_fast.data.transforms._columns import check_positive, column, knows_next, scalars
from machin_fast.data.transforms.chain import Transform

Strategy: TypeAlias = Literal["future", "final", "episode"]
RewardFunction: TypeAlias = Callable[[Tensor, Tensor], "Tensor | tuple[Tensor, Tensor]"]


def hindsight(
    reward_function: RewardFunction,
    goal: str = "state/goal",
    achieved: str = "state/achieved",
    *,
    strategy: Strategy = "future",
    copies: int = 4,
    generator: torch.Generator | None = None,
) -> Transform:
    """Appends copies of all steps with other goals: such as were reached in the same segment.

    A copied step has its own goal, and so has what followed it. So it is followed by no other row:
    each is a segment of its own, whose ``final`` is what followed. Sums over several steps
    (``nstep``, ``gae``) must not be asked of such rows; columns that depend on the goal, such as
    values, are to be added afterwards.

    Source: Andrychowicz et al. 2017, Hindsight Experience Replay, arXiv:1707.01495, algorithm 1
    and section 4.5.

    Args:
        reward_function: Called once with what each copied step achieved (``achieved`` of the next
            observation), ``[rows, ...]``, and its new goal, alike. Returns rewards ``[rows]``; or
            rewards and flags ``[rows]`` bool, which become ``terminated`` of the copies. Without
            flags, the copies terminate where the originals do.
        goal: Column of goals.
        achieved: Column of goals that were reached, of the same row shape and dtype.
        strategy: Which goals: what a step of the same segment achieved, drawn uniformly from this
            step and later ones (``"future"``) or from all (``"episode"``), or the last one
            (``"final"``).
        copies: Of each step, at least 1.
        generator: Of random numbers, on any device. None: torch's own.

    Returns:
        The transform: the original segments, then ``copies * N`` segments of one step, a copy of
        all steps after the other.

    Raises:
        ValueError: ``copies`` or ``strategy`` is none of these. By the transform: a column is
            missing, what was achieved in the end is not known, goals and what was achieved differ
            in form, or the function returns something else.
    """
    op = "transforms.hindsight"
    check_positive(op, copies=copies)
    if strategy not in get_args(Strategy):
        raise ValueError(
            f"{op}: strategy must be one of {', '.join(get_args(Strategy))}, got {strategy}"
        )

    def transform(trajectory: Trajectory) -> Trajectory:
        reward = scalars(op, trajectory, "reward")
        old, reached = column(op, trajectory, goal), column(op, trajectory, achieved)
        if (old.dtype, old.shape) != (reached.dtype, reached.shape):
            raise ValueError(
                f"{op}: {goal} must be {reached.dtype} of shape {list(reached.shape)} like "
                f"{achieved}, got {old.dtype} of shape {list(old.shape)}"
            )
        if not knows_next(trajectory, achieved):
            raise ValueError(
                f"{op}: trajectory must have next_{achieved}, got what followed "
                f"{', '.join(trajectory.final) or 'nothing'}"
            )
        next_achieved = trajectory.next(achieved)
        row = torch.arange(len(trajectory)).repeat(copies)
        chosen = _goal_rows(trajectory, row, strategy, generator).to(reached.device)
        new_goal = next_achieved[chosen]
        returned = reward_function(next_achieved[row.to(reached.device)], new_goal)
        new_reward, flags = returned if isinstance(returned, tuple) else (returned, None)
        _check(op, "rewards", new_reward, len(row), reward.dtype)
        if flags is not None:
            _check(op, "flags", flags, len(row), torch.bool)
            trajectory = trajectory.with_columns(terminated=trajectory.flag("terminated"))

        ends = trajectory.final
        following = {f"next_{name}" for name in ends}
        own = {name: x for name, x in trajectory.columns.items() if name not in following}
        copied = take_rows(own, row)
        after = take_rows({name: trajectory.next(name) for name in ends}, row)
        copied |= {"reward": new_reward.to(reward.dtype), goal: new_goal}
        if goal in after:
            after[goal] = new_goal
        if flags is not None:
            copied["terminated"] = flags
        relabelled = Trajectory(copied, torch.arange(len(row) + 1), final=after)
        return concat([trajectory, relabelled])

    return transform


def _goal_rows(
    trajectory: Trajectory, row: Tensor, strategy: Strategy, generator: torch.Generator | None
) -> Tensor:
    """For each row the one whose achievement becomes its goal."""
    segment = trajectory.segment_of_row[row]
    last = trajectory.last[segment]
    if strategy == "final":
        return last
    first = row if strategy == "future" else trajectory.bounds[segment]
    device = None if generator is None else generator.device
    # Less than 1 by so much that no product with a whole number is rounded up to that.
    draw = torch.rand(len(row), dtype=torch.float64, generator=generator, device=device).cpu()
    return first + (draw * (last - first + 1)).long()


def _check(op: str, what: str, returned: Any, n: int, dtype: torch.dtype) -> None:
    if not isinstance(returned, Tensor):
        got = type(returned).__name__
    elif returned.shape != (n,) or not torch.can_cast(returned.dtype, dtype):
        got = f"{returned.dtype} of shape {list(returned.shape)}"
    else:
        return
    raise ValueError(
        f"{op}: reward_function must return {what} of shape [{n}] for {dtype}, got {got}"
    )

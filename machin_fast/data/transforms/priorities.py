"""Priorities of steps and of sequences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import (
    check_positive,
    check_unit,
    floating,
    scalars,
)
from machin_fast.data.transforms.chain import Transform


def priorities(error: str, name: str = "priority") -> Transform:
    """Adds the priority of each step: how wrong it was. Exponents are the replay's business.

    Source: Schaul et al. 2016, arXiv:1511.05952, section 3.3.

    Args:
        error: Name of the column of temporal-difference errors, ``[N]``.
        name: Of the new column.

    Returns:
        The transform. The column is ``[N]``, dtype of the errors.

    Raises:
        ValueError: By the transform: the column is missing or not ``[N]``.
    """

    def transform(trajectory: Trajectory) -> Trajectory:
        found = scalars("transforms.priorities", trajectory, error)
        return trajectory.with_columns(**{name: found.abs()})

    return transform


def sequence_priorities(
    length: int, eta: float = 0.9, *, column: str = "priority", name: str = "sequence_priority"
) -> Transform:
    """Adds, for each row, the priority of the window of steps that begins there.

    It is ``eta * max + (1 - eta) * mean`` over the window's steps, and 0 where no full window
    fits into the segment, so that those are never drawn. A segment shorter than a window is one
    window, to be masked: its first row has the priority of the whole, the others 0.
    ``functional.sequence_priority`` is the same for windows that were learned from.

    Source: Kapturowski et al. 2019, Recurrent Experience Replay in Distributed Reinforcement
    Learning (R2D2), section 2.3.

    Args:
        length: Steps of a window, at least 1.
        eta: Weight of the largest priority against the mean, in [0, 1].
        column: Priorities of steps, ``[N]``.
        name: Of the new column.

    Returns:
        The transform. The new column is ``[N]``, dtype of ``column``; float32 if that is neither
        float32 nor float64. The cost grows with the logarithm of ``length``.

    Raises:
        ValueError: A number is out of its range. By the transform: the column is missing or not
            ``[N]``.
    """
    op = "transforms.sequence_priorities"
    check_positive(op, length=length)
    check_unit(op, eta=eta)

    def transform(trajectory: Trajectory) -> Trajectory:
        priority = floating(scalars(op, trajectory, column))
        lengths, device = trajectory.lengths, priority.device
        result = torch.zeros_like(priority)
        windows = len(trajectory) - length + 1
        if windows > 0:
            largest = _over_windows(priority, length, torch.maximum)
            mean = _over_windows(priority, length, torch.add) / length
            left = (lengths[trajectory.segment_of_row] - trajectory.position)[:windows]
            fits = (left >= length).to(device)
            result[:windows] = torch.where(fits, eta * largest + (1 - eta) * mean, 0)
        short = lengths < length
        if short.any():
            segment = trajectory.segment_of_row.to(device)
            largest, mean = (
                priority.new_zeros(len(lengths)).scatter_reduce_(
                    0, segment, priority, reduce, include_self=False
                )
                for reduce in ("amax", "mean")
            )
            first = trajectory.bounds[:-1][short].to(device)
            result[first] = (eta * largest + (1 - eta) * mean)[short.to(device)]
        return trajectory.with_columns(**{name: result})

    return transform


def _over_windows(x: Tensor, length: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What ``combine`` makes of ``x[i : i + length]`` for each i where that is whole.

    From pieces of 1, 2, 4, ... rows, as many as ``length`` has bits. Unlike differences of
    cumulative sums, these lose no digits to what stands before the window.
    """
    windows = len(x) - length + 1
    result: Tensor | None = None
    piece, rows, begin = x, 1, 0
    while True:
        if length & rows:
            part = piece[begin : begin + windows]
            result = part if result is None else combine(result, part)
            begin += rows
        if begin == length:
            assert result is not None
            return result
        piece = combine(piece[:-rows], piece[rows:])
        rows *= 2

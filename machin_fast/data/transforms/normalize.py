"""Columns of mean 0 and deviation 1."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import column as column_of
from machin_fast.data.transforms.chain import Transform


def normalize(column: str, per: str = "all", eps: float = 1e-6) -> Transform:
    """Replaces a column by ``(x - mean) / (std + eps)``, each dimension of its rows on its own.

    The deviation is the population's. For statistics that are kept and used again, such as those
    of observations, take ``standardize``.

    Source: none, this is standardisation.

    Args:
        column: Which, such as advantage.
        per: What has its own mean and deviation: ``"all"`` rows together, each ``"segment"``, or
            each value of an integer column, such as the environment's number.
        eps: Keeps a constant column from being divided by 0, at least 0.

    Returns:
        The transform. Dtype is the column's; float32 if it holds integers. It works in float64.

    Raises:
        ValueError: ``eps`` is negative. By the transform: a column is missing, or ``per`` names
            one that is not ``[N]`` of integers.
    """
    op = "transforms.normalize"
    if not eps >= 0:
        raise ValueError(f"{op}: eps must be at least 0, got {eps}")

    def transform(trajectory: Trajectory) -> Trajectory:
        rows = column_of(op, trajectory, column)
        group = _groups(op, trajectory, per)
        if not len(trajectory):
            return trajectory
        x = rows.double()
        if group is None:
            variance, mean = torch.var_mean(x, 0, correction=0)
            result = (x - mean) / (variance.sqrt() + eps)
        else:
            group = group.to(x.device)
            centred = x - _group_mean(x, group)[group]
            std = _group_mean(centred**2, group).sqrt()
            result = centred / (std + eps)[group]
        dtype = rows.dtype if rows.is_floating_point() else torch.float32
        return trajectory.with_columns(**{column: result.to(dtype)})

    return transform


def _groups(op: str, trajectory: Trajectory, per: str) -> Tensor | None:
    """Number of each row's group, ``[N]``. None: all are one."""
    if per == "all":
        return None
    if per == "segment":
        return trajectory.segment_of_row
    found = column_of(op, trajectory, per, 'per may also be "all" or "segment"')
    if found.dim() != 1 or found.is_floating_point() or found.is_complex():
        raise ValueError(
            f"{op}: {per} must be [{len(trajectory)}] of integers, "
            f"got {found.dtype} of shape {list(found.shape)}"
        )
    return found.unique(return_inverse=True)[1]


def _group_mean(x: Tensor, group: Tensor) -> Tensor:
    """``[groups, ...]``"""
    size = group.bincount()
    total = x.new_zeros(len(size), *x.shape[1:]).index_add_(0, group, x)
    return total / size.view(-1, *[1] * (x.dim() - 1))

"""What transforms ask of a trajectory's columns, and the errors if it is not there."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.data.columns import Column
from machin_fast.data.trajectory import Trajectory

_KERNEL_DTYPES = (torch.float32, torch.float64)


def column(op: str, trajectory: Trajectory, name: str, cure: str = "") -> Tensor:
    """The column ``name``, which must be there and a tensor.

    Raises:
        ValueError: It is not there; the text ends with ``cure``.
    """
    if name not in trajectory:
        raise ValueError(
            f"{op}: trajectory must have {name}, got {', '.join(trajectory.columns)}"
            f"{cure and '. ' + cure}"
        )
    return trajectory[name]


def scalars(op: str, trajectory: Trajectory, name: str, cure: str = "") -> Tensor:
    """The column ``name``, which must be one number a row.

    Raises:
        ValueError: It is not there, or of another shape.
    """
    found = column(op, trajectory, name, cure)
    if found.dim() != 1:
        raise ValueError(
            f"{op}: {name} must have shape [{len(trajectory)}], got {list(found.shape)}"
        )
    return found


def floating(found: Tensor) -> Tensor:
    """Numbers that kernels take: float32 or float64, else cast to float32."""
    return found if found.dtype in _KERNEL_DTYPES else found.float()


def following(op: str, trajectory: Trajectory, name: str, cure: str = "") -> Tensor:
    """``next_<name>``. Where nobody knows it but all segments end terminated, which have no next
    value, it is 0 there.

    Raises:
        ValueError: It is not known where an episode was cut short.
    """
    if knows_next(trajectory, name):
        return trajectory.next(name)
    check_all_terminated(op, trajectory, name, cure)
    return shifted(trajectory, trajectory[name], 0)


def shifted(trajectory: Trajectory, rows: Tensor, last: Tensor | float) -> Tensor:
    """The next row of each, ``[N, ...]``, and ``last`` behind the segments."""
    result = rows.roll(-1, 0)
    result[trajectory.last.to(result.device)] = last
    return result


def check_all_terminated(op: str, trajectory: Trajectory, name: str, cure: str = "") -> None:
    """Refuses segments that do not end terminated, for want of ``next_<name>``.

    Raises:
        ValueError: There is one.
    """
    terminated = trajectory.flag("terminated")
    if not terminated[trajectory.last.to(terminated.device)].all():
        raise ValueError(
            f"{op}: trajectory must have next_{name} where a segment does not end terminated, "
            f"got none{cure and '. ' + cure}"
        )


def knows_next(trajectory: Trajectory, name: str) -> bool:
    """Whether the trajectory holds what followed each step."""
    return f"next_{name}" in trajectory or name in trajectory.final


def names_under(op: str, trajectory: Trajectory, asked: str) -> dict[str, str]:
    """The column ``asked``, or the columns nested in it: for each its key within ``asked``.

    Raises:
        ValueError: There is neither.
    """
    if asked in trajectory:
        return {asked: ""}
    prefix = f"{asked}/"
    found = {x: x.removeprefix(prefix) for x in trajectory.columns if x.startswith(prefix)}
    if not found:
        raise ValueError(f"{op}: trajectory must have {asked}, got {', '.join(trajectory.columns)}")
    return found


def final(trajectory: Trajectory, name: str) -> Tensor:
    """What followed the segments, ``[segments, ...]``, which must be a tensor."""
    return tensor(trajectory.final[name])


def tensor(found: Column) -> Tensor:
    """A column of which it is known that it is no list."""
    if isinstance(found, list):
        raise TypeError("Trajectory: the column must be a tensor, got a list")
    return found


def check_unit(op: str, **numbers: float) -> None:
    """Refuses numbers that are not in [0, 1].

    Raises:
        ValueError: One is not.
    """
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{op}: {name} must be in [0, 1], got {number}")


def check_positive(op: str, **numbers: int | None) -> None:
    """Refuses counts below 1. None passes.

    Raises:
        ValueError: One is.
    """
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{op}: {name} must be at least 1, got {number}")

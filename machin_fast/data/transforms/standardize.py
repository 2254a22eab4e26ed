"""Columns made standard with statistics that are kept, and made original again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import column, final, names_under
from machin_fast.data.transforms.chain import Transform

# Keeps a constant dimension from being divided by 0.
_EPS = 1e-6


class Statistics:
    """Mean and deviation of each dimension of some columns.

    Args:
        mean: For each name the shape of one row.
        std: Likewise, of the population.

    Attributes:
        mean, std: As given.

    Raises:
        ValueError: The two differ in names or shapes.
    """

    def __init__(
        self, mean: Mapping[str, Tensor] | None = None, std: Mapping[str, Tensor] | None = None
    ) -> None:
        self.mean = dict(mean or {})
        self.std = dict(std or {})
        shapes, std_shapes = (
            {name: list(x.shape) for name, x in each.items()} for each in (self.mean, self.std)
        )
        if shapes != std_shapes:
            raise ValueError(f"Statistics: std must have shapes {shapes}, got {std_shapes}")

    @classmethod
    def of(cls, trajectory: Trajectory, *columns: str) -> Statistics:
        """Those of a trajectory's rows.

        Args:
            trajectory: At least one step.
            columns: Names; ``state`` also stands for all ``state/...``.

        Returns:
            The statistics, float32, or float64 where the column is.

        Raises:
            ValueError: A column is missing, or there is no step.
        """
        if not len(trajectory):
            raise ValueError("Statistics.of: trajectory must have at least 1 step, got 0")
        mean, std = {}, {}
        for asked in columns:
            for name in names_under("Statistics.of", trajectory, asked):
                rows = trajectory[name]
                dtype = rows.dtype if rows.dtype == torch.float64 else torch.float32
                variance, centre = torch.var_mean(rows.double(), 0, correction=0)
                mean[name], std[name] = centre.to(dtype), variance.sqrt().to(dtype)
        return cls(mean, std)

    def apply(self, name: str, rows: Tensor) -> Tensor:
        """Makes rows of the column ``name`` standard: ``(x - mean) / (std + 1e-6)``.

        Args:
            name: Of a column.
            rows: ``[..., *row shape]``, such as what a policy is about to see.

        Returns:
            Like ``rows``; float32 if they are integers.

        Raises:
            KeyError: There are no statistics of it.
        """
        mean, std = self._on(name, rows)
        return ((rows - mean) / (std + _EPS)).to(_floating(rows))

    def undo(self, name: str, rows: Tensor) -> Tensor:
        """The rows that ``apply`` made standard, up to rounding.

        Args:
            name: Of a column.
            rows: ``[..., *row shape]``.

        Returns:
            Like ``rows``.

        Raises:
            KeyError: There are no statistics of it.
        """
        mean, std = self._on(name, rows)
        return (rows * (std + _EPS) + mean).to(_floating(rows))

    def inverse(self) -> Transform:
        """The transform that undoes ``standardize``, up to rounding."""
        return _each("Statistics.inverse", self, self.undo)

    def state_dict(self) -> dict[str, Tensor]:
        """``<column>.mean`` and ``<column>.std``, for ``torch.save`` or safetensors."""
        both = {"mean": self.mean, "std": self.std}
        return {
            f"{name}.{kind}": x for kind, tensors in both.items() for name, x in tensors.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over the statistics of a ``state_dict``, in place of its own.

        Args:
            state: Of ``state_dict``.

        Raises:
            ValueError: It holds something else; then nothing is changed.
        """
        both: dict[str, dict[str, Tensor]] = {"mean": {}, "std": {}}
        for key, x in state.items():
            name, _, kind = key.rpartition(".")
            if kind not in both:
                raise ValueError(
                    "Statistics.load_state_dict: state must hold <column>.mean and <column>.std, "
                    f"got {key}"
                )
            both[kind][name] = x
        loaded = Statistics(**both)
        self.mean, self.std = loaded.mean, loaded.std

    def _on(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean[name].to(rows.device), self.std[name].to(rows.device)


def standardize(statistics: Statistics) -> Transform:
    """Makes columns standard, and what followed their rows: ``(x - mean) / (std + 1e-6)``.

    Source: none, this is standardisation.

    Args:
        statistics: Of the columns to change, such as ``Statistics.of(trajectory, "state")``. They
            are read when the transform is applied.

    Returns:
        The transform. ``statistics.inverse()`` undoes it.

    Raises:
        ValueError: By the transform: a column is missing.
    """
    return _each("transforms.standardize", statistics, statistics.apply)


def _each(op: str, statistics: Statistics, change: Callable[[str, Tensor], Tensor]) -> Transform:
    """Changes the columns of ``statistics`` and all that is known of what followed them."""

    def transform(trajectory: Trajectory) -> Trajectory:
        columns, ends = dict(trajectory.columns), dict(trajectory.final)
        for name in statistics.mean:
            columns[name] = change(name, column(op, trajectory, name))
            if name in ends:
                ends[name] = change(name, final(trajectory, name))
            if f"next_{name}" in columns:
                columns[f"next_{name}"] = change(name, trajectory[f"next_{name}"])
        return Trajectory(columns, trajectory.bounds, final=ends, envs=trajectory.envs)

    return transform


def _floating(rows: Tensor) -> torch.dtype:
    return rows.dtype if rows.is_floating_point() else torch.float32

"""One transform of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from machin_fast.data.trajectory import Trajectory

Transform: TypeAlias = Callable[[Trajectory], Trajectory]


def chain(*transforms: Transform) -> Transform:
    """Applies transforms one after another.

    Source: none, this is composition.

    Args:
        transforms: The first is applied first. None at all change nothing.

    Returns:
        The transform.

    Raises:
        TypeError: One of them cannot be called.
    """
    for position, each in enumerate(transforms):
        if not callable(each):
            raise TypeError(
                f"transforms.chain: transforms must be callable, got {type(each).__name__} "
                f"at position {position}"
            )

    def transform(trajectory: Trajectory) -> Trajectory:
        for each in transforms:
            trajectory = each(trajectory)
        return trajectory

    return transform

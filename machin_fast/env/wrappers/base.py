"""What all of Machin's wrappers of several environments can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Index: TypeAlias = "int | Sequence[int] | None"
"""Which environments: None all, or some by number."""

Steps: TypeAlias = tuple[list[Any], list[float], list[bool], list[dict[str, Any]]]


class ParallelWrapperBase(ABC):
    """Several environments, none of which resets itself."""

    def __init__(self, *_: Any, **__: Any) -> None:  # noqa: B027 (Machin's takes anything)
        pass

    @abstractmethod
    def reset(self, idx: Index = None) -> list[Any]:
        """Begins episodes.

        Args:
            idx: In which environments.

        Returns:
            The first observation of each.
        """

    @abstractmethod
    def step(self, action: Sequence[Any], idx: Index = None) -> Steps:
        """Takes a step.

        Args:
            action: One for each of them.
            idx: In which environments.

        Returns:
            Of each the observation, the reward, whether the episode has ended, and the info.
        """

    @abstractmethod
    def seed(self, seed: int | Sequence[int] | None = None) -> list[int]:
        """Sets the seeds of all environments.

        Args:
            seed: One for all, or one for each. None: any.

        Returns:
            The seed of each.
        """

    @abstractmethod
    def render(self, *args: Any, **kwargs: Any) -> list[NDArray[np.uint8]]:
        """Pictures.

        Returns:
            ``[height, width, 3]`` of each.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes all environments."""

    @abstractmethod
    def active(self) -> NDArray[np.int64]:
        """Numbers of the environments whose episode has not ended, ascending."""

    @abstractmethod
    def size(self) -> int:
        """Number of environments."""

    @property
    @abstractmethod
    def action_space(self) -> Any:
        """Of one environment."""

    @property
    @abstractmethod
    def observation_space(self) -> Any:
        """Of one environment."""

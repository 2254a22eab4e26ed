"""Encoders of observations that are no vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from machin_fast.model.nets._checks import check_positive, check_sizes


class Flat(nn.Module):
    """Arrays as vectors; an array of no dimensions is a vector of one number.

    Args:
        shape: Of one array.

    Attributes:
        out_features: Entries of a vector.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.out_features = math.prod(shape)

    def forward(self, state: Tensor) -> Tensor:
        """Vectors.

        Args:
            state: ``[..., *shape]``.

        Returns:
            ``[..., out_features]``, same dtype.

        Raises:
            ValueError: Arrays have another shape.
        """
        leading = state.shape[: state.dim() - len(self.shape)]
        if (*leading, *self.shape) != state.shape:
            raise ValueError(
                f"Flat.forward: state must be [..., {', '.join(map(str, self.shape))}], "
                f"got {list(state.shape)}"
            )
        return state.reshape(*leading, self.out_features)


class OneHot(nn.Module):
    """Choices as vectors that are 1 at what was chosen, and 0 elsewhere.

    Args:
        sizes: Number of choices, for each number of the observation.

    Attributes:
        out_features: Entries of a vector, ``sum(sizes)``.

    Raises:
        ValueError: There are no sizes, or one is below 1.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        check_positive("OneHot", **{"len(sizes)": len(sizes)})
        check_sizes("OneHot", "sizes", sizes)
        self.sizes = tuple(sizes)
        self.out_features = sum(sizes)

    def forward(self, state: Tensor) -> Tensor:
        """Vectors of zeros and ones.

        Args:
            state: ``[..., len(sizes)]``, each from 0 to its size - 1. Any dtype.

        Returns:
            ``[..., out_features]``, of torch's default dtype.

        Raises:
            ValueError: Observations have another shape.
            RuntimeError: A choice is out of its range.
        """
        if state.shape[-1:] != (len(self.sizes),):
            raise ValueError(
                f"OneHot.forward: state must be [..., {len(self.sizes)}], got {list(state.shape)}"
            )
        choices = state.long().unbind(-1)
        parts = [F.one_hot(each, size) for each, size in zip(choices, self.sizes, strict=True)]
        return torch.cat(parts, -1).to(torch.get_default_dtype())


class ChannelsFirst(nn.Module):
    """Images ``[..., height, width, channels]`` as ``[..., channels, height, width]``.

    Args:
        one_channel: Images come as ``[..., height, width]``, of one channel.
    """

    def __init__(self, *, one_channel: bool = False) -> None:
        super().__init__()
        self.one_channel = one_channel

    def forward(self, state: Tensor) -> Tensor:
        return state.unsqueeze(-3) if self.one_channel else state.movedim(-1, -3)


class Named(nn.Module):
    """Several observations, each by an encoder of its own, side by side.

    Args:
        encoders: For each name the encoder of that observation, with ``out_features``.

    Attributes:
        input_names: The names.
        out_features: Of all encoders together.

    Raises:
        ValueError: There are no encoders.
    """

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        super().__init__()
        check_positive("Named", **{"len(encoders)": len(encoders)})
        # No ModuleDict: an observation may have a name that it has no place for, as "values".
        self.names = tuple(encoders)
        self.encoders = nn.ModuleList(encoders.values())
        self.input_names = frozenset(encoders)
        self.out_features = sum(each.out_features for each in encoders.values())  # type: ignore[misc]

    def forward(self, **state: Tensor) -> Tensor:
        """Features of all observations.

        Args:
            **state: Each observation by its name; others are ignored.

        Returns:
            ``[..., out_features]``.

        Raises:
            ValueError: An observation is missing.
        """
        missing = [name for name in self.names if name not in state]
        if missing:
            raise ValueError(
                f"Named.forward: state must have {', '.join(self.names)}, "
                f"got {', '.join(state) or 'none'}"
            )
        pairs = zip(self.names, self.encoders, strict=True)
        return torch.cat([encoder(state[name]) for name, encoder in pairs], -1)

"""Convolutional networks for images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from machin_fast.model.nets._checks import check_positive, check_sizes
from machin_fast.model.nets._init import orthogonal


class _ImageNet(nn.Module):
    """Convolutions, then one linear layer.

    Attributes:
        shape: ``[channels, height, width]`` of the images.
        out_features: Number of features.
    """

    def __init__(self, shape: Sequence[int], out_features: int, convolutions: nn.Module) -> None:
        super().__init__()
        op = type(self).__name__
        check_positive(op, out_features=out_features)
        self.shape = tuple(shape)
        self.out_features = out_features
        self.convolutions = convolutions
        with torch.no_grad():
            flat = convolutions(torch.zeros(1, *shape)).numel()
        self.linear = nn.Linear(flat, out_features)

    def forward(self, state: Tensor) -> Tensor:
        """What it sees in images.

        Args:
            state: ``[..., channels, height, width]``. Of uint8, 255 counts as 1; others are taken
                as they are.

        Returns:
            ``[..., out_features]``, 0 or more.

        Raises:
            ValueError: Images have another shape.
        """
        leading = state.shape[:-3]
        if state.shape[-3:] != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(
                f"{type(self).__name__}.forward: state must be [..., {shape}], "
                f"got {list(state.shape)}"
            )
        is_bytes = state.dtype is torch.uint8
        state = state.reshape(-1, *self.shape).to(self.linear.weight.dtype)
        if is_bytes:
            state.div_(255)  # the cast copied them
        features = torch.relu(self.linear(self.convolutions(state).flatten(1)))
        return features.view(*leading, self.out_features)


class NatureCNN(_ImageNet):
    """Three convolutions and a linear layer, for images about as large as Atari's.

    Source: Mnih et al. 2015, doi:10.1038/nature14236, methods, "Model architecture".
    Initialisation as in CleanRL: orthogonal, gain sqrt(2).

    Args:
        shape: ``[channels, height, width]``; both height and width are 36 or more.
        out_features: Number of features.

    Raises:
        ValueError: ``shape`` or ``out_features`` is another one.
    """

    def __init__(self, shape: Sequence[int], out_features: int = 512) -> None:
        _check_shape("NatureCNN", shape, 36, ". Smaller images are for ImpalaCNN")
        convolutions = nn.Sequential(
            nn.Conv2d(shape[0], 32, 8, 4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1), nn.ReLU(),
        )  # fmt: skip
        super().__init__(shape, out_features, convolutions)
        for layer in self.modules():
            orthogonal(layer)


class ImpalaCNN(_ImageNet):
    """Residual blocks between poolings and a linear layer, for images of any size.

    Source: Espeholt et al. 2018 (IMPALA), arXiv:1802.01561, figure 3 (right), without LSTM.

    Args:
        shape: ``[channels, height, width]``.
        out_features: Number of features.
        channels: Of each stage, which halves height and width.

    Raises:
        ValueError: A size is below 1.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out_features: int = 256,
        channels: Sequence[int] = (16, 32, 32),
    ) -> None:
        _check_shape("ImpalaCNN", shape, 1)
        check_sizes("ImpalaCNN", "channels", channels)
        planes = [shape[0], *channels]
        stages = [_stage(*pair) for pair in pairwise(planes)]
        super().__init__(shape, out_features, nn.Sequential(*stages, nn.ReLU()))


def _stage(in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1),
        nn.MaxPool2d(3, 2, padding=1),
        _Residual(channels),
        _Residual(channels),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))


def _check_shape(op: str, shape: Sequence[int], least: int, cure: str = "") -> None:
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < least:
        raise ValueError(
            f"{op}: shape must be [channels, height, width], height and width {least} or more, "
            f"got {list(shape)}{cure}"
        )

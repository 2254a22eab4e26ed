"""Residual networks for images.

Source: He et al. 2016, Deep Residual Learning for Image Recognition, arXiv:1512.03385, table 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from machin_fast.model.nets.base import NeuralNetworkModule

Norm = Callable[[int], nn.Module]


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_planes, out_planes, 1, stride, bias=False)


def conv3x3(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps height and width at stride 1."""
    return nn.Conv2d(in_planes, out_planes, 3, stride, padding=1, bias=False)


def conv5x5(in_planes: int, out_planes: int, stride: int = 2) -> nn.Conv2d:
    """A 5x5 convolution without bias that halves height and width at stride 2."""
    return nn.Conv2d(in_planes, out_planes, 5, stride, padding=2, bias=False)


def none_norm(*_: Any, **__: Any) -> nn.Module:
    """A normalization that does nothing."""
    return nn.Sequential()


class BasicBlock(NeuralNetworkModule):
    """Two 3x3 convolutions around which the input is added.

    Args:
        in_planes: Channels of the input.
        out_planes: Channels of the convolutions; the output has ``expansion`` times as many.
        stride: Of the first convolution.
        norm_layer: Makes the normalization of so many channels. None: ``nn.BatchNorm2d``.
        **__: Taken for the sake of Machin, and ignored.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        stride: int = 1,
        norm_layer: Norm | None = None,
        **__: Any,
    ) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if norm_layer is None else norm_layer
        self.conv1 = conv3x3(in_planes, out_planes, stride)
        self.bn1 = norm(out_planes)
        self.conv2 = conv3x3(out_planes, out_planes)
        self.bn2 = norm(out_planes)
        self.shortcut = _shortcut(in_planes, out_planes, stride, norm)
        self.set_input_module(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Bottleneck(NeuralNetworkModule):
    """A 3x3 convolution between two of 1x1, around which the input is added.

    Args:
        in_planes: Channels of the input.
        out_planes: Channels inside; the output has ``expansion`` times as many.
        stride: Of the 3x3 convolution.
        norm_layer: Makes the normalization of so many channels. None: ``nn.BatchNorm2d``.
        **__: Taken for the sake of Machin, and ignored.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        stride: int = 1,
        norm_layer: Norm | None = None,
        **__: Any,
    ) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if norm_layer is None else norm_layer
        self.conv1 = conv1x1(in_planes, out_planes)
        self.conv2 = conv3x3(out_planes, out_planes, stride)
        self.conv3 = conv1x1(out_planes, self.expansion * out_planes)
        self.bn1 = norm(out_planes)
        self.bn2 = norm(out_planes)
        self.bn3 = norm(self.expansion * out_planes)
        self.shortcut = _shortcut(in_planes, self.expansion * out_planes, stride, norm)
        self.set_input_module(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class BasicBlockWN(BasicBlock):
    """``BasicBlock`` with normalized weights instead of activations.

    Args:
        in_planes, out_planes, stride: As there.
        **__: Taken for the sake of Machin, and ignored.
    """

    def __init__(self, in_planes: int, out_planes: int, stride: int = 1, **__: Any) -> None:
        super().__init__(in_planes, out_planes, stride, none_norm)
        _normalize_weights(self)


class BottleneckWN(Bottleneck):
    """``Bottleneck`` with normalized weights instead of activations.

    Args:
        in_planes, out_planes, stride: As there.
        **__: Taken for the sake of Machin, and ignored.
    """

    def __init__(self, in_planes: int, out_planes: int, stride: int = 1, **__: Any) -> None:
        super().__init__(in_planes, out_planes, stride, none_norm)
        _normalize_weights(self)


Block = type[BasicBlock] | type[Bottleneck]

_BLOCKS = {
    18: [2, 2, 2, 2],
    34: [3, 4, 6, 3],
    50: [3, 4, 6, 3],
    101: [3, 4, 23, 3],
    152: [3, 8, 36, 3],
}
_NORMS: dict[str, tuple[Block, Block, dict[str, Any]]] = {
    "none": (BasicBlock, Bottleneck, {"norm_layer": none_norm}),
    "batch": (BasicBlock, Bottleneck, {}),
    "weight": (BasicBlockWN, BottleneckWN, {}),
}


def cfg(depth: int, norm: str = "none") -> tuple[Block, list[int], dict[str, Any]]:
    """What a network of some depth is made of.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: "none", "batch" or "weight".

    Returns:
        Class of its blocks, how many there are in each of the four layers, and their keyword
        arguments.

    Raises:
        ValueError: ``depth`` or ``norm`` is another one.
    """
    if depth not in _BLOCKS:
        raise ValueError(
            f"ResNet: depth must be one of 18, 34, 50, 101, 152, got {depth}. "
            "Resnet depth should be either 18, 34, 50, 101, 152"
        )
    if norm not in _NORMS:
        raise ValueError(
            f"ResNet: norm must be none, batch or weight, got {norm}. "
            f'Invalid normalization method: "{norm}"'
        )
    basic, bottleneck, kwargs = _NORMS[norm]
    return basic if depth < 50 else bottleneck, _BLOCKS[depth], kwargs


class ResNet(NeuralNetworkModule):
    """A residual network with a linear layer behind it.

    Args:
        in_planes: Channels of the images.
        depth: 18, 34, 50, 101 or 152.
        out_planes: Numbers that it returns.
        out_pool_size: Height and width that the last features are averaged to.
        norm: "none", "batch" (of activations) or "weight" (of the blocks' convolutions).

    Raises:
        ValueError: ``depth`` or ``norm`` is another one.
    """

    def __init__(
        self,
        in_planes: int,
        depth: int,
        out_planes: int,
        out_pool_size: tuple[int, int] = (1, 1),
        norm: str = "none",
    ) -> None:
        super().__init__()
        block, blocks, kwargs = cfg(depth, norm)
        self.norm = norm
        self.depth = depth
        self.in_planes = in_planes
        self.out_planes = out_planes
        self.out_pool_size = out_pool_size

        # Each layer is registered twice, here and in base, as Machin does it: its files load.
        self.conv1 = nn.Conv2d(in_planes, 64, 7, 2, padding=3, bias=False)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        first: list[nn.Module] = [self.conv1]
        if norm == "batch":
            self.bn1 = nn.BatchNorm2d(64)
            first.append(self.bn1)
        self.layer1 = _layer(block, 64, 64, blocks[0], 1, kwargs)
        self.layer2 = _layer(block, 64 * block.expansion, 128, blocks[1], 2, kwargs)
        self.layer3 = _layer(block, 128 * block.expansion, 256, blocks[2], 2, kwargs)
        self.layer4 = _layer(block, 256 * block.expansion, 512, blocks[3], 2, kwargs)
        layers = self.layer1, self.layer2, self.layer3, self.layer4
        self.base = nn.Sequential(*first, nn.ReLU(), self.maxpool, *layers)
        height, width = out_pool_size
        self.fc = nn.Linear(512 * block.expansion * height * width, out_planes)
        self.set_input_module(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        """What it sees in images.

        Args:
            x: ``[batch, in_planes, height, width]``. Machin's was for 224x224 alone.

        Returns:
            ``[batch, out_planes]``.
        """
        features = F.adaptive_avg_pool2d(self.base(x), self.out_pool_size)
        return self.fc(features.flatten(1))


def _shortcut(in_planes: int, out_planes: int, stride: int, norm: Norm) -> nn.Sequential:
    """From a block's input to its output; does nothing where the two have one shape."""
    if stride == 1 and in_planes == out_planes:
        return nn.Sequential()
    return nn.Sequential(conv1x1(in_planes, out_planes, stride), norm(out_planes))


def _normalize_weights(block: nn.Module) -> None:
    for conv in list(block.modules()):
        if isinstance(conv, nn.Conv2d):
            weight_norm(conv)


def _layer(
    block: Block, in_planes: int, planes: int, blocks: int, stride: int, kwargs: dict[str, Any]
) -> nn.Sequential:
    first = block(in_planes, planes, stride, **kwargs)
    rest = (block(planes * block.expansion, planes, **kwargs) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)

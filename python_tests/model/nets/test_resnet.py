"""Residual networks: sizes of the paper, shapes, what the norms do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from machin_fast.model import safe_call
from machin_fast.model.nets import ResNet
from machin_fast.model.nets.resnet import (
    BasicBlock,
    BasicBlockWN,
    Bottleneck,
    BottleneckWN,
    cfg,
    conv1x1,
    conv3x3,
    conv5x5,
    none_norm,
)


def weighted_layers(net: ResNet) -> int:
    """Convolutions and linear layers on the way through, those of the shortcuts left out."""
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear)
        for name, module in net.named_modules()
        if "shortcut" not in name and not name.startswith("base")
    )


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("norm", ["none", "batch", "weight"])
def test_depth_is_the_number_of_layers_with_weights(depth, norm):
    with torch.device("meta"):
        assert weighted_layers(ResNet(3, depth, 10, norm=norm)) == depth


# Parameters of the networks of the paper, as torchvision counts them for 1000 classes.
@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11689512), (34, 21797672), (50, 25557032), (101, 44549160), (152, 60192808)],
)
def test_the_parameters_are_those_of_the_paper(depth, parameters):
    with torch.device("meta"):
        net = ResNet(3, depth, 1000, norm="batch")
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("norm", ["none", "batch", "weight"])
@pytest.mark.parametrize("out_pool_size", [(1, 1), (2, 3)])
def test_shapes_are_right_for_every_depth_norm_and_pool(depth, norm, out_pool_size):
    with torch.device("meta"):
        net = ResNet(4, depth, 5, out_pool_size=out_pool_size, norm=norm)
        assert net(torch.empty(2, 4, 224, 224)).shape == (2, 5)


@pytest.mark.parametrize(("depth", "norm"), [(18, "none"), (18, "weight"), (50, "batch")])
def test_gradients_reach_every_parameter(depth, norm, device):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 40, 40, generator=generator)
    net = ResNet(3, depth, 2, norm=norm).to(device)
    (value,) = safe_call(net, {"x": x})
    assert value.shape == (2, 2) and value.device.type == device.type
    value.square().mean().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


def test_images_of_other_sizes_are_fine():
    assert ResNet(1, 18, 3)(torch.zeros(1, 1, 84, 84)).shape == (1, 3)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, BasicBlockWN, BottleneckWN])
def test_blocks_add_their_input(block):
    net = block(4 * block.expansion, 4)
    for name, parameter in net.named_parameters():
        if name.endswith((".weight", ".original0")):  # a normalized weight is its factor of v / |v|
            nn.init.zeros_(parameter)
    x = torch.rand(2, 4 * block.expansion, 5, 5)
    assert torch.equal(net(x), x)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, BasicBlockWN, BottleneckWN])
def test_blocks_change_size_and_channels(block):
    assert block(3, 4, 2)(torch.rand(2, 3, 8, 8)).shape == (2, 4 * block.expansion, 4, 4)


def test_convolutions_keep_or_halve_the_size():
    x = torch.rand(2, 3, 8, 8)
    for conv, size in ((conv1x1(3, 4), 8), (conv3x3(3, 4), 8), (conv3x3(3, 4, 2), 4),
                       (conv5x5(3, 4), 4), (conv5x5(3, 4, 1), 8)):  # fmt: skip
        assert conv(x).shape == (2, 4, size, size) and conv.bias is None
    assert none_norm(4)(x) is x


def test_an_unknown_depth_or_norm_is_refused():
    with pytest.raises(ValueError, match=r"depth must be one of 18, .*, got 20.*Resnet depth"):
        ResNet(3, 20, 1)
    with pytest.raises(ValueError, match=r'got layer\. Invalid normalization method: "layer"'):
        cfg(18, "layer")

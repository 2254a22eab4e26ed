"""Convolutional networks."""

from __future__ import annotations

import copy

import pytest
import torch

from machin_fast.model import safe_call
from machin_fast.model.nets import ImpalaCNN, NatureCNN

both = pytest.mark.parametrize("kind", [NatureCNN, ImpalaCNN])


@both
@pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 3), (0,)])
def test_all_leading_dimensions_are_kept(kind, leading):
    net = kind((2, 40, 36), 5)
    images = torch.randint(256, (*leading, 2, 40, 36), dtype=torch.uint8)
    features = net(images)
    assert features.shape == (*leading, 5) and net.out_features == 5
    if len(leading) == 2:
        rows = net(images.flatten(0, 1)).view(*leading, 5)
        torch.testing.assert_close(features, rows, atol=1e-6, rtol=0)


@both
def test_bytes_are_scaled_and_numbers_are_not(kind):
    net = kind((2, 36, 36), 5).double()
    images = torch.randint(256, (3, 2, 36, 36), dtype=torch.uint8)
    torch.testing.assert_close(net(images), net(images.double() / 255))
    assert not torch.equal(net(images), net(images.double()))
    assert torch.equal(net(images.float()), net(images.double()))


@both
def test_gradients_flow_and_copies_are_equal(kind, device):
    net = kind((1, 36, 36), 5).to(device)
    twin = copy.deepcopy(net)
    state = {"state": torch.randint(256, (4, 1, 36, 36), dtype=torch.uint8)}
    (features,) = safe_call(net, state)
    assert torch.equal(features, safe_call(twin, state)[0])
    features.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_nature_network_has_the_papers_size():
    net = NatureCNN((4, 84, 84))
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_684_128
    weight = net.convolutions[0].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(32), atol=1e-4, rtol=0)


def test_the_impala_network_has_the_papers_size():
    # Convolutions of three stages, and 32 * 11 * 11 features to 256.
    stages = sum(9 * a * b + b + 4 * (9 * b * b + b) for a, b in ((4, 16), (16, 32), (32, 32)))
    net = ImpalaCNN((4, 84, 84))
    assert sum(p.numel() for p in net.parameters()) == stages + 32 * 121 * 256 + 256
    assert ImpalaCNN((3, 7, 5), 8, (4,))(torch.zeros(2, 3, 7, 5)).shape == (2, 8)


@both
def test_images_of_another_shape_are_refused(kind):
    with pytest.raises(
        ValueError,
        match=rf"{kind.__name__}\.forward: state must be \[\.\.\., 3, 40, 40\], got "
        r"\[2, 40, 40, 3\]",
    ):
        kind((3, 40, 40))(torch.zeros(2, 40, 40, 3))


def test_sizes_that_make_no_network_are_refused():
    with pytest.raises(
        ValueError,
        match=r"NatureCNN: shape must be \[channels, height, width\], height and width 36 or more, "
        r"got \[3, 84, 35\]\. Smaller images are for ImpalaCNN",
    ):
        NatureCNN((3, 84, 35))
    with pytest.raises(ValueError, match=r"ImpalaCNN: shape must be .*, got \[84, 84\]"):
        ImpalaCNN((84, 84))
    with pytest.raises(ValueError, match=r"ImpalaCNN: channels must be .* or more, got \[4, 0\]"):
        ImpalaCNN((1, 8, 8), channels=(4, 0))
    with pytest.raises(ValueError, match="ImpalaCNN: out_features must be 1 or more, got 0"):
        ImpalaCNN((1, 8, 8), 0)

"""Noise on weights: what it is, when it is there, and that it can be turned off."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from machin_fast.model.nets import MLP, NoisyLinear, without_noise


def test_it_begins_as_the_paper_says():
    torch.manual_seed(0)
    layer = NoisyLinear(400, 300)
    most = 1 / math.sqrt(400)
    for mean in (layer.weight, layer.bias):
        assert mean.abs().max() <= most
        assert mean.std().item() == pytest.approx(most / math.sqrt(3), rel=0.1)
    for std in (layer.weight_std, layer.bias_std):
        torch.testing.assert_close(std, torch.full_like(std, 0.5 * most))
    assert NoisyLinear(4, 1, std=0.1).weight_std.unique().tolist() == pytest.approx([0.05])


@pytest.mark.parametrize("leading", [(), (1,), (7,), (5, 7)])
def test_all_leading_dimensions_are_kept(leading):
    layer = NoisyLinear(3, 2).double()
    y = layer(torch.randn(*leading, 3, dtype=torch.float64))
    assert y.shape == (*leading, 2) and y.dtype is torch.float64


def test_noise_is_fresh_in_each_forward_whatever_the_mode():
    layer, x = NoisyLinear(3, 2), torch.randn(5, 3)
    for net in (layer.train(), layer.eval()):
        assert not torch.equal(net(x), net(x))


def test_all_rows_of_a_batch_see_the_same_weights():
    layer = NoisyLinear(3, 2)
    y = layer(torch.randn(3).expand(6, 3))
    torch.testing.assert_close(y, y[:1].expand(6, 2))


def test_weights_are_the_means_plus_factorised_noise():
    """Of rows of the identity, the output is the weights themselves, and the bias."""
    torch.manual_seed(0)
    layer = NoisyLinear(3, 4).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    inputs = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    with torch.no_grad():
        draws = torch.stack([layer(inputs) for _ in range(20_000)])
    bias = draws[:, 0] / layer.bias_std  # f of the outputs' noise
    weight = (draws[:, 1:] - draws[:, :1]) / layer.weight_std.T  # outer product of both
    # E f(x) = 0, E f(x)^2 = E|x| = sqrt(2 / pi)
    assert bias.mean(0).abs().max() < 0.03
    second = math.sqrt(2 / math.pi)
    torch.testing.assert_close(
        bias.square().mean(0), torch.full((4,), second).double(), atol=0.03, rtol=0
    )
    torch.testing.assert_close(
        weight.square().mean(0), torch.full((3, 4), second**2).double(), atol=0.05, rtol=0
    )
    # Rank one: w_ij * w_kl = w_il * w_kj; and its rows are multiples of the bias's noise.
    assert (
        weight[:, 0, 0] * weight[:, 1, 1] - weight[:, 0, 1] * weight[:, 1, 0]
    ).abs().max() < 1e-9
    assert (weight[:, 0, 0] * bias[:, 1] - weight[:, 0, 1] * bias[:, 0]).abs().max() < 1e-9


def test_gradients_reach_means_and_deviations():
    layer = NoisyLinear(3, 2)
    layer(torch.randn(5, 3)).square().sum().backward()
    assert all(parameter.grad.count_nonzero() for parameter in layer.parameters())


def test_without_noise_it_is_a_linear_layer_of_the_means():
    net = nn.Sequential(MLP(3, 4, (5,), linear=NoisyLinear), NoisyLinear(4, 2))
    x = torch.randn(6, 3)
    with without_noise(net):
        first, second = net[0].layers[0], net[0].layers[2]
        h = torch.relu(x @ first.weight.T + first.bias) @ second.weight.T + second.bias
        torch.testing.assert_close(net(x), h @ net[1].weight.T + net[1].bias)
        with without_noise(net[1]):
            pass
        assert torch.equal(net(x), net(x)), "the inner context left it on"
    assert not torch.equal(net(x), net(x))


def test_noise_comes_back_after_an_error():
    layer = NoisyLinear(3, 2)
    with pytest.raises(KeyError), without_noise(layer):
        raise KeyError
    assert layer.noisy


def test_seeds_copies_and_state_dicts():
    layer, x = NoisyLinear(3, 2), torch.randn(5, 3)
    twin = copy.deepcopy(layer)
    other = NoisyLinear(3, 2)
    other.load_state_dict(layer.state_dict())
    results = []
    for net in (layer, twin, other):
        torch.manual_seed(7)
        results.append(net(x))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert "in_features=3, out_features=2" in repr(layer)


def test_sizes_below_1_are_refused():
    with pytest.raises(ValueError, match="NoisyLinear: in_features must be 1 or more, got 0"):
        NoisyLinear(0, 2)

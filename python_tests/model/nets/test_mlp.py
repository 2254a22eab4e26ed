"""Perceptrons: shapes, dtypes, how they begin."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from machin_fast.model import safe_call
from machin_fast.model.nets import MLP, NoisyLinear


@pytest.mark.parametrize("leading", [(), (1,), (7,), (5, 7), (0,)])
def test_all_leading_dimensions_are_kept(leading):
    assert MLP(3, 2)(torch.randn(*leading, 3)).shape == (*leading, 2)


def test_it_is_what_its_layers_say():
    mlp = MLP(3, 2, (4, 5), nn.Tanh, layer_norm=True).double()
    kinds = [nn.Linear, nn.LayerNorm, nn.Tanh] * 2 + [nn.Linear]
    assert [type(layer) for layer in mlp.layers] == kinds
    x = torch.randn(6, 3, dtype=torch.float64)
    first, norm, _, second, norm2, _, last = mlp.layers
    expected = last(norm2(second(norm(first(x)).tanh())).tanh())
    torch.testing.assert_close(mlp(x), expected)
    assert mlp.in_features == 3 and mlp.out_features == 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float64])
def test_states_of_any_dtype_are_cast_to_that_of_the_weights(dtype):
    mlp, x = MLP(3, 2), torch.ones(4, 3)
    assert torch.equal(mlp(x.to(dtype)), mlp(x))
    assert mlp.double()(x.to(dtype)).dtype is torch.float64


def test_without_outputs_it_ends_with_its_last_activations():
    features = MLP(3, None, (4, 5))
    assert features.out_features == 5 and (features(torch.randn(9, 3)) >= 0).all()
    nothing = MLP(3, None, ())
    x = torch.randn(9, 3)
    assert nothing.out_features == 3 and nothing(x) is x


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_weights_begin_orthogonal_and_biases_zero(gain):
    mlp = MLP(8, 3, (16, 16), gain=gain)
    linears = [layer for layer in mlp.layers if isinstance(layer, nn.Linear)]
    for layer, scale in zip(linears, (math.sqrt(2), math.sqrt(2), gain), strict=True):
        weight = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
        torch.testing.assert_close(
            weight @ weight.T, scale**2 * torch.eye(len(weight)), atol=1e-5, rtol=0
        )
        assert (layer.bias == 0).all()


def test_without_gain_layers_stay_as_torch_makes_them():
    torch.manual_seed(0)
    mlp = MLP(8, 3, (16,), gain=None)
    torch.manual_seed(0)
    expected = nn.Linear(8, 16)
    assert torch.equal(mlp.layers[0].weight, expected.weight)
    assert torch.equal(mlp.layers[0].bias, expected.bias)


def test_layers_of_another_kind_are_taken():
    mlp = MLP(3, 2, (4,), linear=NoisyLinear)
    assert [type(layer) for layer in mlp.layers] == [NoisyLinear, nn.ReLU, NoisyLinear]
    assert mlp(torch.ones(5, 3, dtype=torch.uint8)).shape == (5, 2)


def test_gradients_flow_and_copies_are_apart(device):
    mlp = MLP(3, 2).to(device)
    twin = copy.deepcopy(mlp)
    safe_call(mlp, {"state": torch.randn(4, 3)})[0].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in mlp.parameters())
    assert all(parameter.grad is None for parameter in twin.parameters())
    other = MLP(3, 2).to(device)
    other.load_state_dict(mlp.state_dict())
    x = torch.randn(4, 3, device=device)
    assert torch.equal(other(x), mlp(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2), "in_features must be 1 or more, got 0"),
        ((3, 0), "out_features must be 1 or more, got 0"),
        ((3, 2, (4, 0)), r"hidden must be sizes of 1 or more, got \[4, 0\]"),
    ],
)
def test_sizes_below_1_are_refused(arguments, message):
    with pytest.raises(ValueError, match=rf"MLP: {message}"):
        MLP(*arguments)

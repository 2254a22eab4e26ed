"""Dueling heads."""

from __future__ import annotations

import pytest
import torch

from machin_fast.model.nets import Dueling, NoisyLinear, without_noise


@pytest.mark.parametrize("leading", [(), (1,), (7,), (5, 7)])
@pytest.mark.parametrize("hidden", [(), (6,)])
def test_values_are_the_states_plus_centred_advantages(leading, hidden):
    head = Dueling(4, 3, hidden).double()
    x = torch.randn(*leading, 4, dtype=torch.float64)
    advantage = head.advantage(x)
    expected = head.value(x) + advantage - advantage.mean(-1, keepdim=True)
    assert head(x).shape == (*leading, 3)
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("leading", [(), (1,), (5, 7)])
def test_each_atom_has_a_value_and_advantages_of_its_own(leading):
    head = Dueling(4, 3, (6,), atoms=11).double()
    x = torch.randn(*leading, 4, dtype=torch.float64)
    logits = head(x)
    assert logits.shape == (*leading, 3, 11)
    torch.testing.assert_close(logits.mean(-2), head.value(x))
    advantage = head.advantage(x).view(*leading, 3, 11)
    difference = logits[..., 1, :] - logits[..., 0, :]
    torch.testing.assert_close(difference, advantage[..., 1, :] - advantage[..., 0, :])


def test_layers_may_be_noisy_and_gradients_flow():
    head = Dueling(4, 3, (6,), atoms=5, linear=NoisyLinear)
    x = torch.randn(2, 4)
    assert not torch.equal(head(x), head(x))
    with without_noise(head):
        assert torch.equal(head(x), head(x))
    head(x).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_sizes_below_1_are_refused():
    with pytest.raises(ValueError, match="Dueling: actions must be 1 or more, got 0"):
        Dueling(4, 0)
    with pytest.raises(ValueError, match="Dueling: atoms must be 1 or more, got 0"):
        Dueling(4, 2, atoms=0)

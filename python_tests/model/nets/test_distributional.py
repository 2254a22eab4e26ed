"""Distributions over atoms."""

from __future__ import annotations

import pytest
import torch

from machin_fast.model import safe_call
from machin_fast.model.nets import MLP, Chain, Distributional, Dueling, Recurrent


def nets() -> list[Distributional]:
    flat = Distributional(MLP(4, 3 * 5), 5)
    return [flat.double(), Distributional(Chain(MLP(4, 6), Dueling(6, 3, atoms=5))).double()]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("leading", [(), (1,), (7,), (5, 7)])
def test_probabilities_sum_to_1_for_each_action(which, leading):
    net, x = nets()[which], torch.randn(*leading, 4, dtype=torch.float64)
    probability = net(x)
    assert probability.shape == (*leading, 3, 5)
    torch.testing.assert_close(probability.sum(-1), torch.ones(*leading, 3, dtype=torch.float64))
    torch.testing.assert_close(net.log_prob(x).exp(), probability)


def test_flat_logits_are_atoms_of_action_after_action():
    net = nets()[0]
    x = torch.randn(2, 4, dtype=torch.float64)
    torch.testing.assert_close(net(x)[:, 1], net.net(x)[:, 5:10].softmax(-1))


def test_log_probabilities_are_finite_where_probabilities_are_0():
    class Sure(torch.nn.Module):
        def forward(self, state):
            return torch.tensor([[[1000.0, 0.0]]]) * state

    net, state = Distributional(Sure()), torch.ones(1, 1, 1)
    assert net(state)[0, 0, 1] == 0
    (log_prob,) = safe_call(net, {"state": state, "other": 1}, method="log_prob")
    assert log_prob[0, 0].tolist() == [0, -1000]


def test_what_else_the_network_returns_is_passed_on():
    net = Distributional(Recurrent(MLP(4, 6), 8, head=Dueling(8, 3, atoms=5)))
    x, hidden = torch.randn(2, 4), torch.randn(2, 8)
    probability, new = net(x, hidden=hidden)
    log_prob, same = net.log_prob(x, hidden=hidden)
    assert net.recurrent and torch.equal(new, same)
    torch.testing.assert_close(log_prob.exp(), probability)


def test_atoms_below_1_are_refused():
    with pytest.raises(ValueError, match="Distributional: atoms must be 1 or more, got 0"):
        Distributional(MLP(4, 3), 0)

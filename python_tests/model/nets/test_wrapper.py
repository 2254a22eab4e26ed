"""Which arguments a module passes on to the network that it wraps."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel

from machin_fast.model import safe_call
from machin_fast.model.nets import MLP, Chain, Named, Recurrent
from machin_fast.model.nets.wrapper import Wrapper


class Pair(nn.Module):
    """Takes two state keys, and returns one thing more."""

    def forward(self, position, goal=0):
        return position + goal, "more"


class Anything(nn.Module):
    def forward(self, **kwargs):
        return kwargs


class Around(Wrapper):
    own_names = frozenset({"mine"})

    def forward(self, *args, **kwargs):
        return self.call_net(args, kwargs)


def test_names_that_the_network_has_arguments_for_are_passed_on():
    around = Around(Pair())
    assert around(position=1, goal=2, mine=3, other=4) == (3, ("more",))
    assert around(1, goal=2) == (3, ("more",))
    assert around.input_names == {"position", "goal", "mine"}


def test_a_network_that_takes_anything_gets_all_but_what_is_the_wrappers_own():
    around = Around(Anything())
    assert around(mine=1, other=2) == ({"other": 2}, ())
    assert around.input_names is None


def test_a_network_that_names_what_is_the_wrappers_own_gets_it_too():
    class Curious(nn.Module):
        def forward(self, state, mine):
            return state + mine

    assert Around(Curious())(state=1, mine=2, other=3) == (3, ())


def test_names_are_looked_up_through_wrappers_of_all_kinds():
    for net in (Around(Pair()), DataParallel(Pair()), Chain(DataParallel(Around(Pair())))):
        assert {"position", "goal"} <= Around(net).input_names
    named = Around(Chain(Named({"a": MLP(2, 3), "b": MLP(1, 2)}), nn.ReLU()))
    assert named.input_names == {"a", "b", "mine"}


@pytest.mark.parametrize("wrap", [Chain, Around, lambda net: Around(Chain(net))])
def test_recurrent_networks_are_known_through_wrappers(wrap):
    class Own(nn.Module):
        def forward(self, state, hidden=None, reset=None):
            return state, hidden

    assert wrap(Recurrent(MLP(2, 3), 4)).recurrent and wrap(Own()).recurrent
    assert not wrap(MLP(2, 3)).recurrent and not wrap(Anything()).recurrent


def test_layers_that_happen_to_have_the_names_asked_for_mean_nothing():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.input_names = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, state):
            return self.recurrent(state)

    chain = Chain(Own())
    assert chain.input_names == {"state"} and not chain.recurrent


def test_a_chain_passes_on_what_else_the_network_returned():
    chain = Chain(Pair(), nn.Tanh(), nn.ReLU())
    output, more = safe_call(chain, {"position": -torch.ones(2), "goal": 3.0, "other": 1})
    torch.testing.assert_close(output, torch.full((2,), 2.0).tanh())
    assert more == "more"
    assert torch.equal(Chain(MLP(2, 3), nn.ReLU())(torch.zeros(4, 2)), torch.zeros(4, 3))


def test_a_chain_has_the_features_of_its_last_module():
    assert Chain(MLP(2, 3), MLP(3, 5)).out_features == 5
    assert Chain(MLP(2, 3)).out_features == 3
    assert Chain(MLP(2, 3), nn.ReLU()).out_features is None


def test_wrappers_can_be_copied_and_pickled():
    chain = Chain(MLP(2, 3), MLP(3, 1))
    x = torch.randn(4, 2)
    for twin in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        assert torch.equal(twin(state=x, other=1), chain(x))

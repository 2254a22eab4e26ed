"""Critics of actions."""

from __future__ import annotations

import pytest
import torch

from machin_fast.model import safe_call
from machin_fast.model.nets import MLP, Flat, Named, Recurrent, StateActionCritic


@pytest.mark.parametrize("leading", [(1,), (7,), (5, 7)])
def test_values_are_of_state_and_action_side_by_side(leading):
    critic = StateActionCritic(MLP(5, 1)).double()
    state = torch.randn(*leading, 3, dtype=torch.float64)
    action = torch.randn(*leading, 2, dtype=torch.float64)
    expected = critic.head(torch.cat([state, action], -1))
    assert expected.shape == (*leading, 1)
    for value in (
        critic(state, action),
        critic(state, action=action),
        critic(action=action, state=state),
        safe_call(critic, {"state": state, "other": 1}, {"action": action})[0],
    ):
        assert torch.equal(value, expected)


def test_the_gradient_reaches_the_action():
    action = torch.randn(4, 2, requires_grad=True)
    StateActionCritic(MLP(5, 1))(torch.randn(4, 3), action).sum().backward()
    assert action.grad.count_nonzero() == action.numel()


def test_states_go_through_the_encoder():
    encoder = Named({"image": Flat((2, 2)), "goal": Flat((3,))})
    critic = StateActionCritic(MLP(9, 1), encoder)
    state = {"image": torch.randn(4, 2, 2), "goal": torch.randn(4, 3)}
    action = torch.randn(4, 2)
    (value,) = safe_call(critic, state, {"action": action})
    flat = torch.cat([state["image"].flatten(1), state["goal"], action], 1)
    assert torch.equal(value, critic.head(flat))
    assert critic.input_names == {"image", "goal", "action"}


def test_a_recurrent_encoder_passes_its_state_on():
    critic = StateActionCritic(MLP(6, 1), Recurrent(MLP(3, 8), 4))
    value, hidden = critic(torch.randn(5, 3), torch.randn(5, 2), hidden=torch.zeros(5, 4))
    assert value.shape == (5, 1) and hidden.shape == (5, 4) and critic.recurrent


def test_an_action_must_be_given():
    with pytest.raises(
        TypeError, match=r"StateActionCritic\.forward: action must be given, got none"
    ):
        StateActionCritic(MLP(5, 1))(state=torch.zeros(1, 3))

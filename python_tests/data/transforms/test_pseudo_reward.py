"""Rewards of a discriminator against machina's numbers and the equation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from data.transforms.trajectories import LENGTHS, left_alone, trajectory
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory


def test_machinas_pseudo_rewards(device):
    state = [
        [-0.013, -0.682, -0.377], [-0.717, 0.912, -0.109], [0.525, 0.48, -0.806],
        [0.57, 0.349, 0.314], [-0.399, -0.427, 0.786], [2.1819999, -0.83, 0.534],
    ]  # fmt: skip
    action = [
        [-0.366, 0.785], [0.438, 1.0599999], [-2.7950001, -0.601],
        [-0.988, -0.108], [-0.724, -0.641], [0.682, 1.902],
    ]  # fmt: skip
    weight = [
        [-0.0245, -0.1545, -0.4735, -1.5415, -0.759], [-0.035, -0.0875, 0.202, -0.0635, 0.0795],
        [0.394, -0.4425, -0.1435, -0.8035, 0.4865], [0.019, 0.245, 0.771, 0.54, -0.03],
    ]  # fmt: skip
    bias, out = [0.0788, -0.1432, 0.0434, 0.0139], [-1.618, 1.337, -0.704, 0.683]
    m, d, u = (torch.tensor(x, device=device) for x in (weight, bias, out))

    def discriminator(state, action):
        return torch.tanh(torch.cat([state, action], 1) @ m.T + d) @ u

    given = Trajectory({"state": state, "action": action, "reward": [0.0] * 6}).to(device)
    done = transforms.pseudo_reward(discriminator)(given)
    expected = [0.1892115, 1.9278815, 0.0373372, 0.1104142, 0.2178983, 1.6209542]
    assert_close(done["reward"].tolist(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(done["real_reward"], given["reward"])


@pytest.mark.parametrize("batch_size", [None, 1, 7])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_reward_is_minus_log_of_one_minus_the_chance(lengths, batch_size, device):
    def discriminator(state, action):
        assert not torch.is_grad_enabled()
        return (state.sum(1) - action.sum(1))[:, None]

    with left_alone(trajectory(lengths, device=device)) as given:
        done = transforms.pseudo_reward(discriminator, batch_size=batch_size)(given)
    logits = (given["state"].sum(1) - given["action"].sum(1)).tolist()
    expected = [-math.log(1 - 1 / (1 + math.exp(-logit))) for logit in logits]
    assert_close(done["reward"].tolist(), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(done["real_reward"], given["reward"])


def test_a_sure_discriminator_gives_no_infinity():
    given = trajectory([2], dtype=torch.float32)
    done = transforms.pseudo_reward(lambda s, a: torch.tensor([500.0, -500.0]))(given)
    assert done["reward"].tolist() == [500, 0]


def test_states_alone_may_be_judged():
    given = trajectory([4])
    done = transforms.pseudo_reward(lambda state: state[:, 0], state_only=True)(given)
    assert_close(done["reward"], nn.functional.softplus(given["state"][:, 0]))


def test_the_real_reward_outlives_a_second_application():
    given = trajectory([4])
    transform = transforms.pseudo_reward(lambda s, a: s[:, 0], keep="real")
    twice = transform(transform(given))
    assert torch.equal(twice["real"], given["reward"])
    assert torch.equal(twice["reward"], transform(given)["reward"])


def test_nested_inputs_go_by_name(device):
    class Discriminator(nn.Module):
        def forward(self, torque, position):
            return position[:, 0] - torque[:, 0]

    given = trajectory([4], device=device)
    nested = Trajectory(
        {
            "state": {"position": given["state"], "speed": given["state"]},
            "action": {"torque": given["action"]},
            "reward": given["reward"],
        }
    )
    done = transforms.pseudo_reward(Discriminator())(nested)
    expected = nn.functional.softplus(given["state"][:, 0] - given["action"][:, 0])
    assert torch.equal(done["reward"], expected)

    # If one is nested and the other is not, that one goes by its own name.
    mixed = nested.without_columns("action/torque").with_columns(action=given["action"])
    done = transforms.pseudo_reward(lambda action, position: position[:, 0] - action[:, 0])(mixed)
    assert torch.equal(done["reward"], expected)


def test_what_does_not_fit_is_refused():
    given = trajectory([3])
    with pytest.raises(ValueError, match=r"pseudo_reward: the network must return \[3, 1\] or"):
        transforms.pseudo_reward(lambda s, a: s)(given)
    with pytest.raises(
        ValueError, match=r"transforms.pseudo_reward: trajectory must have act, got state"
    ):
        transforms.pseudo_reward(lambda s, a: s[:, 0], action="act")(given)
    with pytest.raises(ValueError, match="pseudo_reward: batch_size must be at least 1, got -1"):
        transforms.pseudo_reward(lambda s, a: s, batch_size=-1)
    same = Trajectory({"state": {"x": [1.0]}, "action": {"x": [1.0]}, "reward": [1.0]})
    with pytest.raises(
        ValueError, match="pseudo_reward: names of inputs must differ, got state/x, action/x"
    ):
        transforms.pseudo_reward(lambda x: x)(same)

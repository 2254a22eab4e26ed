"""Values of states, and how critics are called."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from data.transforms.trajectories import LENGTHS, left_alone, segments, trajectory
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory


class Critic(nn.Module):
    """A sum that tells states apart, and a list of the batches it was called with."""

    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        self.flat = flat
        self.batches: list[int] = []

    def forward(self, state):
        self.batches.append(len(state))
        assert not torch.is_grad_enabled()
        value = state @ torch.arange(1, 1 + state.shape[1]).to(state)
        return value if self.flat else value[:, None]


def value_of(state):
    return state @ torch.arange(1, 1 + state.shape[-1]).to(state)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1, 10, 1000])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_each_step_has_the_value_of_its_state_and_of_what_followed(
    lengths, batch_size, flat, device
):
    with left_alone(trajectory(lengths, device=device)) as given:
        done = transforms.values(Critic(flat), batch_size=batch_size)(given)
    assert_close(done["value"], value_of(given["state"]), rtol=0, atol=1e-12)
    following = done.next("value")
    for i, rows in enumerate(segments(given)):
        for row in rows[:-1]:
            assert following[row] == done["value"][row + 1]
        last = value_of(given.final["state"][i])
        assert_close(following[rows[-1]], last, rtol=0, atol=1e-12)


def test_there_is_one_forward_of_all_rows_and_of_what_followed_segments():
    critic = Critic()
    transforms.values(critic)(trajectory([5, 1, 8]))
    assert critic.batches == [14 + 3]


def test_batches_are_no_larger_than_asked_for():
    critic = Critic()
    transforms.values(critic, batch_size=5)(trajectory([5, 1, 8]))
    assert critic.batches == [5, 5, 4, 3]


def test_observations_that_do_not_follow_take_a_second_forward(device):
    state = torch.randn(6, 3, device=device)
    other = torch.randn(6, 3, device=device)
    critic = Critic()
    done = transforms.values(critic)(Trajectory({"state": state, "next_state": other}))
    assert critic.batches == [6, 6]
    assert torch.equal(done["value"], value_of(state))
    assert torch.equal(done.next("value"), value_of(other))


def test_nested_observations_go_by_name_as_far_as_the_critic_takes_them(device):
    class ByName(nn.Module):
        def forward(self, goal, position):
            return (position - 2 * goal).sum(1, keepdim=True), "more"

    given = Trajectory(
        {"state": {k: torch.randn(4, 2, device=device) for k in ("position", "speed", "goal")}},
        final={"state": {k: torch.randn(1, 2, device=device) for k in ("goal", "position")}},
    )
    done = transforms.values(ByName(), "v")(given)
    expected = (given["state/position"] - 2 * given["state/goal"]).sum(1)
    assert torch.equal(done["v"], expected)
    last = (given.final["state/position"] - 2 * given.final["state/goal"]).sum(1)
    assert torch.equal(done.next("v"), torch.cat([expected[1:], last]))


def test_a_critic_of_any_keyword_gets_them_all():
    given = Trajectory(
        {"obs": {"a": torch.ones(2), "b": torch.ones(2)}, "terminated": [False, True]}
    )
    done = transforms.values(lambda **all_of: all_of["a"] + all_of["b"], observation="obs")(given)
    assert done["value"].tolist() == [2, 2]


def test_after_terminations_nothing_needs_to_be_known(device):
    given = trajectory([3, 2], device=device, final=False).select([0])
    done = transforms.values(Critic())(given)
    assert torch.equal(done.next("value")[:2], done["value"][1:])
    assert done.next("value")[2] == 0


def test_the_mode_is_left_alone():
    for training in (True, False):
        critic = Critic().train(training)
        transforms.values(critic)(trajectory([2]))
        assert critic.training is training


def test_values_are_no_views_of_what_the_critic_returns():
    given = trajectory([4])
    done = transforms.values(lambda state: state[:, 0])(given)
    assert done["value"].data_ptr() != given["state"].data_ptr()


def test_old_values_are_replaced():
    done = transforms.values(Critic())(trajectory([4, 2]))
    again = transforms.values(lambda state: state.sum(1))(done)
    assert torch.equal(again["value"], done["state"].sum(1))
    assert torch.equal(again.next("value")[-1], done.final["state"][-1].sum())


@pytest.mark.parametrize(
    ("critic", "given", "message"),
    [
        (
            lambda state: state,
            trajectory([4]),
            r"transforms.values: the network must return \[5, 1\] or \[5\], got \[5, 3\]",
        ),
        (lambda state: 1.0, trajectory([4]), "must return .* got float"),
        (
            lambda state: state[:, 0],
            Trajectory({"reward": torch.ones(2)}),
            "transforms.values: trajectory must have state, got reward",
        ),
        (
            lambda state: state[:, 0],
            trajectory([1, 1], final=False),
            "transforms.values: trajectory must have next_state where a segment does not end "
            "terminated, got none. Make the trajectory with next_state",
        ),
        (
            lambda x: x,
            Trajectory({"state": {"a": torch.ones(2), "b": torch.ones(2)}}),
            "transforms.values: the network must take one of a, b, got arguments x",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(critic, given, message):
    with pytest.raises(ValueError, match=message):
        transforms.values(critic)(given)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(
        ValueError, match=r"transforms.values: batch_size must be at least 1, got 0"
    ):
        transforms.values(Critic(), batch_size=0)

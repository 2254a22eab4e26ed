"""Sums of n rewards against the equation, and targets against their sums."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import oracles
from data.transforms.trajectories import LENGTHS, left_alone, segments, trajectory
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory


@pytest.mark.parametrize("n", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_sums_match_the_equation(lengths, n, device):
    with left_alone(trajectory(lengths, device=device)) as given:
        done = transforms.nstep(n, 0.9)(given)
    names = ("reward", "terminated", "truncated")
    reward, discount, last = oracles.nstep_return(
        **{name: given[name].cpu().numpy() for name in names},
        gamma=0.9,
        n=n,
        bounds=given.bounds.numpy(),
    )
    assert_close(done["reward"].cpu(), torch.from_numpy(reward), rtol=0, atol=1e-12)
    assert_close(done["discount"].cpu(), torch.from_numpy(discount), rtol=0, atol=1e-12)
    assert torch.equal(done.next("state"), given.next("state")[torch.from_numpy(last)])
    for name in ("state", "action", "terminated", "truncated"):
        assert done[name] is given[name]


def test_one_step_changes_nothing_but_tells_the_discount(device):
    given = trajectory([3, 2, 4], device=device)
    done = transforms.nstep(1, 0.5)(given)
    assert torch.equal(done["reward"], given["reward"])
    assert torch.equal(done["discount"], 0.5 * (~given["terminated"]).double())
    assert torch.equal(done.next("state"), given.next("state"))
    assert "next_state" not in done


def test_targets_are_those_of_the_critic_n_steps_later(device):
    def critic(state):
        return state.sum(1)

    given = trajectory([9, 9, 9], device=device)
    done = transforms.nstep(4, 0.9)(given)
    target = done["reward"] + done["discount"] * critic(done.next("state"))
    followed = critic(given.next("state"))
    for rows in segments(given):
        for row in rows:
            window = range(row, min(row + 4, rows.stop))
            value = sum(0.9 ** (i - row) * given["reward"][i] for i in window)
            if not given["terminated"][window[-1]]:
                value += 0.9 ** len(window) * followed[window[-1]]
            assert_close(target[row], value, rtol=0, atol=1e-12)


def test_values_move_with_the_states():
    given = transforms.values(lambda state: state.sum(1))(trajectory([5, 3]))
    done = transforms.nstep(2, 0.9)(given)
    assert_close(done.next("value"), done.next("state").sum(1), rtol=0, atol=1e-12)


def test_nested_observations_are_moved():
    given = Trajectory(
        {"state": {"a": torch.arange(4), "b": torch.arange(4.0)}, "reward": torch.ones(4)},
        final={"state": {"a": torch.tensor([4]), "b": torch.tensor([4.0])}},
    )
    done = transforms.nstep(3, 1.0)(given)
    assert done.next("state/a").tolist() == [3, 4, 4, 4]
    assert done.next("state/b").tolist() == [3, 4, 4, 4]
    assert done["reward"].tolist() == [3, 3, 2, 1]


@pytest.mark.parametrize(
    ("n", "gamma", "message"),
    [
        (0, 0.9, r"transforms.nstep: n must be at least 1, got 0"),
        (1, 2, r"transforms.nstep: gamma must be in \[0, 1\], got 2"),
    ],
)
def test_numbers_out_of_range_are_refused(n, gamma, message):
    with pytest.raises(ValueError, match=message):
        transforms.nstep(n, gamma)


def test_what_does_not_fit_is_refused():
    once = transforms.nstep(2, 0.9)(trajectory([3]))
    with pytest.raises(ValueError, match="nstep: trajectory must have no discount yet, got state"):
        transforms.nstep(2, 0.9)(once)
    with pytest.raises(
        ValueError,
        match=r"nstep: trajectory must know what followed its segments, got nothing. "
        "Make it with next_<observation>",
    ):
        transforms.nstep(2, 0.9)(trajectory([3], final=False))

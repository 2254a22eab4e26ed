"""Stored recurrent states: a window replayed from one gives what the whole segment gave."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from data.transforms.trajectories import (
    LENGTHS,
    MACHINA,
    left_alone,
    machina,
    segments,
    trajectory,
)
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory


class Gru(nn.Module):
    """Returns what a policy would, then its state."""

    def __init__(self, inputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(inputs, 4, dtype=torch.float64)
        self.calls = []

    def forward(self, state, hidden=None):
        self.calls.append(len(state))
        new = self.cell(state, hidden)
        return new.sum(1), "log_prob", new


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.LSTMCell(3, 4, dtype=torch.float64)

    def forward(self, state, hidden=None):
        h, c = self.cell(state, hidden)
        return h.sum(1), (h, c)


def stored(done, row):
    """The state before a row, as the network takes it."""
    if "hidden" in done:
        return done["hidden"][row : row + 1]
    return done["hidden/0"][row : row + 1], done["hidden/1"][row : row + 1]


@pytest.mark.parametrize("make", [Gru, Lstm])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_window_replayed_from_the_stored_state_gives_the_same_outputs(lengths, make, device):
    net = make().to(device)
    with left_alone(trajectory(lengths, device=device)) as given:
        done = transforms.hidden(net)(given)
    with torch.no_grad():
        for rows in segments(given):
            whole, state = [], None
            for row in rows:
                output, *_, state = net(given["state"][row : row + 1], state)
                whole.append(output)
            for start in {rows.start, rows[-1], rows[len(rows) // 2]}:
                state = stored(done, start)
                for row in range(start, min(start + 5, rows.stop)):
                    output, *_, state = net(given["state"][row : row + 1], state)
                    wanted = whole[row - rows.start]
                    assert_close(output, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("make", [Gru, Lstm])
def test_segments_start_from_zeros(make):
    done = transforms.hidden(make(), "h")(trajectory([3, 1, 2]))
    for name in ("h",) if make is Gru else ("h/0", "h/1"):
        states = done[name]
        assert states.shape == (6, 4) and states.dtype == torch.float64
        assert states[[0, 3, 4]].tolist() == [[0] * 4] * 3
        assert (states[[1, 2, 5]] != 0).all()
        assert not states.requires_grad


def test_segments_are_stepped_side_by_side():
    net = Gru()
    transforms.hidden(net)(trajectory([2, 5, 1, 5]))
    assert net.calls == [4, 3, 2, 2, 2]


def test_no_steps_at_all_still_give_columns():
    done = transforms.hidden(Lstm())(trajectory([]))
    assert done["hidden/0"].shape == done["hidden/1"].shape == (0, 4)


def test_a_critic_of_actions_gets_them():
    gru = Gru(inputs=5)

    def critic(state, action, hidden=None):
        return gru(torch.cat([state, action], 1), hidden)

    given = trajectory([4, 3])
    done = transforms.hidden(critic, action="action")(given)
    both = torch.cat([given["state"], given["action"]], 1)
    joined = Trajectory({"state": both}, given.bounds)
    assert torch.equal(done["hidden"], transforms.hidden(gru)(joined)["hidden"])


def test_nested_observations_go_by_name():
    gru = Gru()

    class ByName(nn.Module):
        def forward(self, position, hidden=None):
            return gru(position, hidden)

    given = trajectory([4, 3])
    nested = Trajectory(
        {"state": {"speed": given["action"], "position": given["state"]}}, given.bounds
    )
    done = transforms.hidden(ByName())(nested)
    assert torch.equal(done["hidden"], transforms.hidden(gru)(given)["hidden"])


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (
            lambda state: state,
            TypeError,
            "transforms.hidden: the network must return a tuple whose last item is the new "
            "state, got Tensor",
        ),
        (
            lambda state: (state, None),
            TypeError,
            "hidden: the new state must be a tensor or a tuple of such, got NoneType",
        ),
        (
            lambda state: (state, state[None]),
            ValueError,
            r"hidden: the new state must be \[2, ...\], one row a segment, got \[1, 2, 3\]",
        ),
    ],
)
def test_what_is_no_state_is_refused(result, error, message):
    with pytest.raises(error, match=message):
        transforms.hidden(lambda state, hidden: result(state))(trajectory([2, 2]))


def test_resets_are_the_first_rows_of_segments(device):
    with left_alone(machina(device)) as given:
        done = transforms.resets()(given)
    assert done["reset"].dtype == torch.bool
    assert done["reset"].long().tolist() == MACHINA["h_mask"]
    assert transforms.resets("new")(trajectory([]))["new"].shape == (0,)

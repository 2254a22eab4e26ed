"""Priorities of windows against machina's numbers, and against one window after another."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from data.transforms.trajectories import LENGTHS, left_alone, segments, trajectory
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory
from machin_fast.functional import sequence_priority


def test_machinas_sequence_priorities(device):
    priority = torch.tensor([0.946, 0.737, 0.231, 0.176, 0.881, 0.589, 0.462, 1.064], device=device)
    done = transforms.sequence_priorities(3)(Trajectory({"priority": priority}))
    expected = [0.9152001, 0.7014334, 0.8358334, 0.8477667, 0.8573, 1.0281, 0.0, 0.0]
    assert_close(done["sequence_priority"].tolist(), expected, rtol=1e-4, atol=1e-5)


def test_machinas_priorities_after_learning(device):
    # machina applies alpha itself, and leaves 0 the starts of episodes that it did not learn from.
    priority = torch.ones(10, device=device)
    td = torch.tensor([2.0, -3.0, 0.5], device=device)
    priority[6:9] = (td.abs() + 1e-6) ** 0.6
    given = Trajectory({"priority": priority}, [0, 5, 10])
    done = transforms.sequence_priorities(3)(given)["sequence_priority"]
    assert_close(
        done[5:].tolist(), [1.8881607, 1.8768193, 1.8596287, 0.0, 0.0], rtol=1e-4, atol=1e-5
    )
    assert_close(done[:5].tolist(), [1.0, 1.0, 1.0, 0.0, 0.0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 60, 64, 65, 500])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_each_start_has_the_priority_of_its_window(lengths, length, eta, device):
    with left_alone(trajectory(lengths, device=device)) as given:
        recipe = transforms.chain(
            transforms.priorities("reward", "p"),
            transforms.sequence_priorities(length, eta, column="p", name="s"),
        )
        done = recipe(given)
    p = given["reward"].abs().tolist()
    assert done["p"].tolist() == p
    expected = [0.0] * len(p)
    for rows in segments(given):
        for start in rows:
            window = p[start : min(start + length, rows.stop)]
            if len(window) == length or start == rows.start:
                expected[start] = eta * max(window) + (1 - eta) * sum(window) / len(window)
    assert_close(done["s"].tolist(), expected, rtol=0, atol=1e-12)


def test_a_huge_priority_costs_the_others_no_digits():
    priority = torch.full((100,), 1e-3)
    priority[10] = 1e20
    priority[20] = torch.inf
    done = transforms.sequence_priorities(5)(Trajectory({"priority": priority}))
    result = done["sequence_priority"]
    assert_close(result[21:96], torch.full((75,), 1e-3), rtol=1e-6, atol=0)
    assert result[20] == torch.inf


@pytest.mark.parametrize("length", [1, 6, 60])
def test_windows_that_were_learned_from_have_the_same_priority(length):
    td = torch.randn(60, 7, dtype=torch.float64)
    mask = torch.arange(60)[:, None] < torch.tensor([60] * 6 + [length])
    given = Trajectory({"td": td.t()[mask.t()]}, torch.tensor([0, *[60] * 6, length]).cumsum(0))
    recipe = transforms.chain(transforms.priorities("td"), transforms.sequence_priorities(60))
    starts = recipe(given)["sequence_priority"][given.bounds[:-1]]
    assert_close(sequence_priority(td, mask), starts, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "transforms.sequence_priorities: length must be at least 1, got 0"),
        ((3, 1.1), r"transforms.sequence_priorities: eta must be in \[0, 1\], got 1.1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        transforms.sequence_priorities(*arguments)


def test_what_is_missing_is_named():
    given = trajectory([3])
    with pytest.raises(ValueError, match="sequence_priorities: trajectory must have priority, got"):
        transforms.sequence_priorities(2)(given)
    with pytest.raises(ValueError, match=r"priorities: action must have shape \[3\], got \[3, 2\]"):
        transforms.priorities("action")(given)

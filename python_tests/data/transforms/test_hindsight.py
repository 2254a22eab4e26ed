"""Copies of steps with goals that were reached: each fact checked row by row."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from data.transforms.trajectories import LENGTHS, left_alone, segments
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory


def numbered(lengths, device="cpu", dtype=torch.float64):
    """Achieved goals tell their place: row i has i, what followed segment s has 1000 + s."""
    n, ends = sum(lengths), torch.arange(len(lengths), device=device, dtype=dtype)
    number = torch.arange(n, device=device, dtype=dtype)
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    truncated = torch.zeros(n, dtype=torch.bool, device=device)
    truncated[(bounds[1:] - 1).to(device)] = True
    return Trajectory(
        {
            "state": {
                "observation": torch.stack([number, number], 1),
                "achieved": number[:, None],
                "goal": -torch.ones(n, 1, device=device, dtype=dtype),
            },
            "action": number.long(),
            "reward": -torch.ones(n, device=device),
            "truncated": truncated,
        },
        bounds,
        final={
            "state": {
                "observation": 1000 + torch.stack([ends, ends], 1),
                "achieved": 1000 + ends[:, None],
                "goal": -torch.ones(len(lengths), 1, device=device, dtype=dtype),
            }
        },
    )


def reached(achieved, goal):
    return (achieved == goal).all(1).float() - 1


def goals_of(rows, row, strategy, i):
    """Where the goal of a copy of ``row`` may come from."""
    behind = [*rows[1:], 1000 + i]
    return {
        "future": behind[row - rows.start :],
        "final": behind[-1:],
        "episode": behind,
    }[strategy]


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_copies_have_goals_that_were_reached(lengths, strategy, copies, device):
    with left_alone(numbered(lengths, device)) as given:
        done = transforms.hindsight(reached, strategy=strategy, copies=copies)(given)
    n = len(given)
    assert len(done) == n * (1 + copies)
    assert done.bounds.tolist() == [*given.bounds.tolist(), *range(n + 1, len(done) + 1)]
    for name, column in given.columns.items():
        assert torch.equal(done[name][:n], column), name
    assert torch.equal(done.next("state/goal")[:n], given.next("state/goal"))

    source = torch.arange(n).repeat(copies)
    for name in ("state/observation", "state/achieved", "action", "truncated"):
        assert torch.equal(done[name][n:], given[name][source]), name
    for name in ("state/observation", "state/achieved"):
        assert torch.equal(done.next(name)[n:], given.next(name)[source]), name
    goal = done["state/goal"][n:]
    assert torch.equal(done.next("state/goal")[n:], goal)
    assert torch.equal(done["reward"][n:], reached(given.next("state/achieved")[source], goal))
    for i, rows in enumerate(segments(given)):
        for row in rows:
            found = set(goal[row::n, 0].tolist()) if n else set()
            assert found <= set(goals_of(rows, row, strategy, i))


def test_goals_are_drawn_uniformly():
    given = numbered([3, 4])
    for strategy in ("future", "episode"):
        transform = transforms.hindsight(
            reached,
            strategy=strategy,
            copies=6000,
            generator=torch.Generator().manual_seed(0),
        )
        goal = transform(given)["state/goal"][7:, 0].view(6000, 7)
        for i, rows in enumerate(segments(given)):
            for row in rows:
                allowed = goals_of(rows, row, strategy, i)
                drawn = Counter(goal[:, row].tolist())
                assert set(drawn) == set(allowed)
                mean = 6000 / len(allowed)
                assert all(abs(count - mean) < 5 * mean**0.5 for count in drawn.values())


def test_a_generator_makes_it_repeatable():
    def goals(seed):
        generator = torch.Generator().manual_seed(seed)
        done = transforms.hindsight(reached, generator=generator)(numbered([50]))
        return done["state/goal"].flatten().tolist()

    assert goals(1) == goals(1)
    assert goals(1) != goals(2)


def test_the_reward_function_is_called_once_with_all_rows():
    calls = []

    def function(achieved, goal):
        calls.append((achieved.shape, goal.shape))
        return reached(achieved, goal)

    transforms.hindsight(function, copies=3)(numbered([5, 2]))
    assert calls == [((21, 1), (21, 1))]


def test_flags_of_the_function_become_terminations(device):
    def function(achieved, goal):
        same = (achieved == goal).all(1)
        return same.float(), same

    given = numbered([4, 2], device)
    done = transforms.hindsight(function, strategy="final", copies=2)(given)
    assert done["terminated"][:6].tolist() == [False] * 6
    assert done["terminated"][6:].tolist() == ([False] * 3 + [True] + [False, True]) * 2
    assert torch.equal(done["reward"][6:] == 1, done["terminated"][6:])
    assert torch.equal(done["truncated"][6:], given["truncated"].repeat(2))


def test_without_flags_copies_terminate_where_the_originals_do():
    given = numbered([4, 2])
    terminated = torch.tensor([False, False, False, True, False, False])
    given = given.without_columns("truncated").with_columns(terminated=terminated)
    done = transforms.hindsight(reached, copies=2)(given)
    assert done["terminated"].tolist() == terminated.tolist() * 3


def test_what_follows_nothing_may_be_a_column_of_its_own():
    given = numbered([4])
    other = Trajectory(
        {
            **given.columns,
            **{f"next_{name}": given.next(name).flip(0) for name in given.final},
            "next_state/goal": torch.tensor([[-5.0], [-6.0], [-7.0], [-8.0]]).double(),
        }
    )
    assert "next_state/goal" in other
    done = transforms.hindsight(reached, copies=1)(other)
    assert torch.equal(done.next("state/observation")[4:], other.next("state/observation"))
    assert torch.equal(done.next("state/goal")[4:], done["state/goal"][4:])
    for name in given.final:
        assert torch.equal(done.next(name)[:4], other.next(name)), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"copies": 0}, "transforms.hindsight: copies must be at least 1, got 0"),
        (
            {"strategy": "best"},
            "hindsight: strategy must be one of future, final, episode, got best",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        transforms.hindsight(reached, **arguments)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda a, g: a,
            r"hindsight: reward_function must return rewards of shape \[8\] for torch.float32, "
            r"got torch.float64 of shape \[8, 1\]",
        ),
        (lambda a, g: 1, "must return rewards .* got int"),
        (lambda a, g: (reached(a, g), reached(a, g)), "must return flags .* got torch.float32"),
    ],
)
def test_what_the_function_returns_is_checked(function, message):
    with pytest.raises(ValueError, match=message):
        transforms.hindsight(function, copies=4)(numbered([2]))


def test_what_does_not_fit_is_refused():
    given = numbered([2])
    with pytest.raises(ValueError, match="hindsight: trajectory must have goal, got"):
        transforms.hindsight(reached, goal="goal")(given)
    with pytest.raises(
        ValueError,
        match=r"hindsight: state/observation must be torch.float64 of shape \[2, 1\] like "
        r"state/achieved, got torch.float64 of shape \[2, 2\]",
    ):
        transforms.hindsight(reached, goal="state/observation")(given)
    bare = Trajectory(given.columns)
    with pytest.raises(
        ValueError,
        match="hindsight: trajectory must have next_state/achieved, got what followed nothing",
    ):
        transforms.hindsight(reached)(bare)

"""``Trajectory`` against its contract: what goes in comes out, without copies where none is due."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from machin_fast.data import Trajectory, concat


def grid(steps: int, envs: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """A rollout ``[steps, envs]``, stored environment by environment. Step t of environment e has
    the number ``100 e + t``; each third step ends an episode, terminated and truncated in turn."""
    number = 100 * torch.arange(envs)[:, None] + torch.arange(steps)
    step = torch.arange(steps).expand(envs, steps)
    columns = {
        "state": torch.stack([number, -number], 2).float(),
        "action": number,
        "terminated": step % 6 == 2,
        "truncated": step % 6 == 5,
    }
    return {name: x.to(device).transpose(0, 1) for name, x in columns.items()}


def chain(*lengths: int, device: torch.device | str = "cpu") -> Trajectory:
    """Segments of numbered rows; 0.5 more than the last number followed."""
    n = sum(lengths)
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    number = torch.arange(n, device=device)
    state = number[:, None].float()
    return Trajectory(
        {"state": state, "number": number},
        bounds,
        final={"state": bounds[1:, None].to(device) - 0.5},
    )


def numbers(trajectory: Trajectory) -> list[int]:
    return trajectory["number"].tolist()


def same(first: Trajectory, second: Trajectory) -> bool:
    """Whether two are equal in all."""
    assert list(first.columns) == list(second.columns)
    assert list(first.final) == list(second.final)
    assert torch.equal(first.bounds, second.bounds)
    assert first.envs == second.envs
    for mine, other in ((first.columns, second.columns), (first.final, second.final)):
        for name, x in mine.items():
            y = other[name]
            if isinstance(x, list):
                assert x == y, name
            else:
                assert isinstance(y, Tensor) and x.dtype == y.dtype and torch.equal(x, y), name
    return True


# -- columns and bounds ------------------------------------------------------------------------


def test_a_trajectory_tells_its_form(device):
    given = chain(3, 1, 2, device=device)
    assert len(given) == 6 and given.segments == 3 and given.device.type == device.type
    assert given.bounds.tolist() == [0, 3, 4, 6]
    assert given.lengths.tolist() == [3, 1, 2]
    assert given.last.tolist() == [2, 3, 5]
    assert given.segment_of_row.tolist() == [0, 0, 0, 1, 2, 2]
    assert given.position.tolist() == [0, 1, 2, 0, 0, 1]
    assert "state" in given and "reward" not in given
    assert repr(given) == "Trajectory(6 steps in 3 segments: state=[1], number=[])"


def test_tensors_and_arrays_are_not_copied():
    state, reward = torch.zeros(5, 3), np.zeros(5)
    given = Trajectory({"state": state, "reward": reward})
    assert given["state"].data_ptr() == state.data_ptr()
    reward[2] = 7
    assert given["reward"][2] == 7


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 5), (2, 0, 4)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float64, torch.complex64])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_columns_of_any_dtype_and_shape_go_through(n, dtype, shape):
    rows = torch.randint(0, 2, (n, *shape)).to(dtype)
    given = Trajectory({"x": rows, "number": torch.arange(n)}, range(n + 1))
    assert given.segments == n
    assert torch.equal(given["x"], rows) and given["x"].dtype == dtype
    order = list(reversed(range(n)))
    assert torch.equal(given.select(order)["x"], rows.flip(0))
    assert torch.equal(concat([given, given])["x"], torch.cat([rows, rows]))


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_column_may_hold_objects(n):
    infos = [{"seed": i} for i in range(n)] or [{}]
    given = Trajectory({"info": infos, "x": torch.zeros(len(infos))}, range(len(infos) + 1))
    assert given.columns["info"] == infos
    with pytest.raises(TypeError, match="Trajectory: info must be a tensor, got a list"):
        given["info"]


def test_rows_that_differ_in_shape_stay_a_list_whatever_is_made_of_them(tmp_path):
    rows = [np.zeros(2), np.zeros(2), np.zeros(3)]
    given = Trajectory({"x": rows, "y": torch.arange(3)}, [0, 2, 3])
    first, second = given.split(1)
    for part in (given, first, second, given.select([0]), given.with_columns(z=[1, 2, 3]),
                 given.to("cpu"), given.without_columns("y")):  # fmt: skip
        assert isinstance(part.columns["x"], list), part
    joined = concat([first, second])
    assert [len(row) for row in joined.columns["x"]] == [2, 2, 3]

    given = Trajectory({"x": [[1, 2], [3, 4], [5]]}, [0, 2, 3]).select([0])
    given.save(tmp_path / "a.mft")
    assert Trajectory.load(tmp_path / "a.mft").columns["x"] == [[1, 2], [3, 4]]


def test_nested_mappings_become_names():
    given = Trajectory({"state": {"goal": {"x": [1.0], "y": [2.0]}, "speed": [3]}, "reward": [0.5]})
    assert list(given.columns) == ["state/goal/x", "state/goal/y", "state/speed", "reward"]


def test_rows_with_gaps_inside_are_made_dense(device):
    images = torch.arange(6 * 4 * 4 * 3, device=device).view(6, 4, 4, 3).permute(0, 3, 1, 2)
    given = Trajectory(
        {"image": images, "wide": torch.arange(24, device=device).view(6, 4)[:, ::2]}
    )
    assert torch.equal(given["image"], images)
    assert torch.equal(given.select([0])["image"], images)
    apart = torch.zeros(6, 5, 2, device=device)[:, 0]  # rows apart, without gaps: as it was
    assert Trajectory({"x": apart})["x"].data_ptr() == apart.data_ptr()


def test_lists_go_where_the_first_tensor_is(device):
    given = Trajectory({"reward": [1.0, 2.0], "state": torch.zeros(2, device=device)}, [0, 1, 2],
                       final={"reward": [1.0, 2.0]})  # fmt: skip
    assert given["reward"].device.type == device.type
    assert given.with_columns(x=[1, 2])["x"].device.type == device.type


def test_segments_end_with_episodes_if_nothing_else_is_said(device):
    terminated = torch.tensor([False, True, False, False, False], device=device)
    truncated = torch.tensor([False, False, True, False, False], device=device)
    given = Trajectory({"terminated": terminated, "truncated": truncated})
    assert given.bounds.tolist() == [0, 2, 3, 5]
    assert Trajectory({"x": [0, 0]}).bounds.tolist() == [0, 2]
    assert Trajectory({"x": []}).bounds.tolist() == [0]


def test_an_absent_flag_is_false(device):
    given = chain(2, 3, device=device)
    flag = given.flag("terminated")
    assert flag.dtype == torch.bool and flag.device.type == device.type
    assert flag.tolist() == [False] * 5


def test_gradients_are_left_behind():
    given = Trajectory({"x": torch.ones(3, requires_grad=True)})
    assert not given["x"].requires_grad


@pytest.mark.parametrize(
    ("columns", "more", "error", "message"),
    [
        ({}, {}, ValueError, "Trajectory: columns must be at least 1, got 0"),
        ({"x": 1.0}, {}, ValueError, r"Trajectory: x must be \[n, ...\], got a single value"),
        ({"x": {1}}, {}, TypeError, "Trajectory: x must be a tensor, an array or a list, got set"),
        (
            {"a": {"b": [1]}, "a/b": [1]},
            {},
            ValueError,
            "Trajectory: a/b must be there once, got it nested and flat",
        ),
        (
            {"x": [1, 2], "y": [1]},
            {},
            ValueError,
            "Trajectory: y must have 2 rows like x, got 1",
        ),
        ({"x": [1]}, {"bounds": [0, 2]}, ValueError, r"must ascend from 0 to 1, got \[0, 2\]"),
        ({"x": [1]}, {"bounds": [0, 0, 1]}, ValueError, "bounds must ascend from 0 to 1, got"),
        ({"x": [1]}, {"bounds": [[0, 1]]}, ValueError, "bounds must ascend from 0 to 1, got"),
        ({"x": [1]}, {"bounds": []}, ValueError, "bounds must ascend from 0 to 1, got"),
        ({"x": [1, 2]}, {"bounds": [0, 1.5, 2]}, ValueError, r"to 2, got \[0.0, 1.5, 2.0\]"),
        ({"x": [1, 2, 3]}, {"envs": 2}, ValueError, "Trajectory: envs must divide 3 rows, got 2"),
        ({"x": [1]}, {"envs": 0}, ValueError, "Trajectory: envs must divide 1 rows, got 0"),
        (
            {"x": [1, 2], "terminated": [0, 1]},
            {},
            TypeError,
            "Trajectory: terminated must be bool, got torch.int64",
        ),
        (
            {"x": [1, 2], "truncated": [[True], [True]]},
            {},
            ValueError,
            r"Trajectory: truncated must have shape \[2\], got \[2, 1\]",
        ),
        (
            {"terminated": [True, "no"]},
            {},
            TypeError,
            "Trajectory: terminated must be a tensor, got a list",
        ),
        (
            {"terminated": [False, True, False]},
            {"bounds": [0, 3]},
            ValueError,
            "bounds must end a segment where an episode ends, got none behind row 1",
        ),
        ({"x": [1]}, {"final": {"y": [1]}}, ValueError, "final must name columns, got y"),
        (
            {"x": [1]},
            {"final": {"x": [1, 2]}},
            ValueError,
            "Trajectory: final x must have 1 rows, one a segment, got 2",
        ),
        (
            {"x": [1]},
            {"final": {"x": [1.0]}},
            TypeError,
            "Trajectory: final x must be torch.int64, got torch.float32",
        ),
        (
            {"x": [[1]], "next_x": [[1, 2]]},
            {},
            ValueError,
            r"Trajectory: next_x must have rows of shape \[1\], got \[2\]",
        ),
        (
            {"x": [1], "next_x": [1.0]},
            {},
            TypeError,
            "Trajectory: next_x must be torch.int64, got torch.float32",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(columns, more, error, message):
    with pytest.raises(error, match=message):
        Trajectory(columns, **more)


# -- what followed -----------------------------------------------------------------------------


def test_what_follows_anyway_is_stored_once(device):
    state = torch.randn(6, 2, device=device)
    bounds = [0, 3, 4, 6]
    following = state.roll(-1, 0)
    following[[2, 3, 5]] = ends = torch.randn(3, 2, device=device)
    given = Trajectory({"state": state, "next_state": following}, bounds)
    assert list(given.columns) == ["state"]
    assert torch.equal(given.final["state"], ends)
    assert torch.equal(given.next("state"), following)


def test_what_does_not_follow_is_kept(device):
    state, other = torch.randn(6, 2, device=device), torch.randn(6, 2, device=device)
    given = Trajectory({"state": state, "next_state": other}, [0, 4, 6])
    assert torch.equal(given.next("state"), other)
    assert torch.equal(given.final["state"], other[[3, 5]])


def test_the_next_row_or_the_final_one_follows(device):
    given = chain(3, 1, 2, device=device)
    assert given.next("state").flatten().tolist() == [1, 2, 2.5, 3.5, 5, 5.5]
    assert given["state"].flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert chain().next("state").shape == (0, 1)


def test_what_is_not_known_is_not_made_up():
    with pytest.raises(
        ValueError,
        match=r"Trajectory.next: final must hold number, got state. "
        r"Make the trajectory with next_number",
    ):
        chain(2).next("number")
    with pytest.raises(ValueError, match="final must hold x, got nothing"):
        Trajectory({"x": [1]}).next("x")


# -- columns added and taken -------------------------------------------------------------------


def test_added_columns_leave_the_original_alone(device):
    given = chain(3, 2, device=device)
    more = given.with_columns(value=torch.arange(5.0, device=device), state={"goal": [1] * 5})
    assert list(given.columns) == ["state", "number"]
    assert list(more.columns) == ["state", "number", "value", "state/goal"]
    assert more["state"] is given["state"] and more.bounds is given.bounds
    assert more.next("state").tolist() == given.next("state").tolist()
    replaced = more.with_columns(value=torch.zeros(5, device=device))
    assert replaced["value"].tolist() == [0] * 5 and more["value"].tolist() == [0, 1, 2, 3, 4]


def test_an_added_next_column_replaces_what_was_known():
    given = chain(2, 1)
    other = torch.tensor([[5.0], [6.0], [7.0]])
    more = given.with_columns(next_state=other)
    assert torch.equal(more.next("state"), other)
    assert given.next("state").flatten().tolist() == [1, 1.5, 2.5]
    back = more.with_columns(next_state=given.next("state"))
    assert "next_state" not in back and same(back, given)
    half = given.with_columns(state=given["state"].half(), next_state=given.next("state").half())
    assert half.final["state"].dtype == torch.float16


def test_added_flags_must_end_segments():
    given = chain(2, 1)
    flag = torch.tensor([False, True, True])
    assert given.with_columns(terminated=flag).flag("terminated").tolist() == flag.tolist()
    with pytest.raises(ValueError, match="bounds must end a segment where an episode ends"):
        given.with_columns(terminated=~flag)


def test_columns_that_do_not_fit_are_not_added():
    given = chain(2, 1)
    with pytest.raises(ValueError, match=r"Trajectory.with_columns: x must have 3 rows, got 2"):
        given.with_columns(x=[1, 2])
    with pytest.raises(TypeError, match=r"Trajectory: final state must be torch.float64, got"):
        given.with_columns(state=given["state"].double())
    with pytest.raises(ValueError, match=r"x must be \[n, ...\], got a single value"):
        given.with_columns(x=1)
    assert list(given.columns) == ["state", "number"]


def test_taken_columns_take_along_what_followed():
    given = chain(3, 2)
    less = given.without_columns("state", "reward")
    assert list(less.columns) == ["number"] and not less.final
    given = Trajectory({"x": [1, 2, 3], "next_x": [7, 8, 9], "y": [1, 2, 3]})
    assert list(given.without_columns("x").columns) == ["y"]
    assert not given.without_columns("x").final


# -- transitions -------------------------------------------------------------------------------


def test_transitions_make_episodes():
    given = Trajectory.from_transitions(
        {
            "state": np.full(2, i, np.float32),
            "action": i,
            "reward": float(i),
            "next_state": np.full(2, i + 1, np.float32),
            "terminated": i == 1,
            "truncated": i == 2,
        }
        for i in range(5)
    )
    assert given.bounds.tolist() == [0, 2, 3, 5]
    assert "next_state" not in given
    assert given.final["state"][:, 0].tolist() == [2, 3, 5]
    assert given["action"].dtype == torch.int64 and given["reward"].dtype == torch.float32
    assert given["state"].dtype == torch.float32


def test_machins_transitions_have_a_dimension_more(device):
    steps = [
        {
            "state": {"state": torch.full((1, 2), float(i), device=device)},
            "action": {"action": torch.full((1, 1), i, device=device)},
            "next_state": {"state": torch.full((1, 2), i + 1.0, device=device)},
            "reward": float(i),
            "terminal": torch.tensor([i == 2]) if i % 2 else i == 2,
        }
        for i in range(3)
    ]
    given = Trajectory.from_transitions(steps, batched=True)
    assert {name: list(x.shape) for name, x in given.columns.items()} == {
        "state/state": [3, 2],
        "action/action": [3, 1],
        "reward": [3],
        "terminated": [3],
    }
    assert given["terminated"].tolist() == [False, False, True]
    assert all(x.device.type == device.type for x in given.columns.values())
    assert given.next("state/state")[:, 0].tolist() == [1, 2, 3]


def test_the_order_of_keys_does_not_matter():
    given = Trajectory.from_transitions([{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    assert given["a"].tolist() == [1, 3] and given["b"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "Trajectory.from_transitions: transitions must be at least 1, got 0"),
        (
            [{"a": 1, "b": 1}, {"a": 1}],
            "Trajectory.from_transitions: transitions must all have a, b, got a at position 1",
        ),
        (
            [{"a": 1, "terminal": True, "terminated": True}],
            "Trajectory.from_transitions: transitions must have terminal or terminated, got both",
        ),
    ],
)
def test_transitions_that_differ_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        Trajectory.from_transitions(steps)


# -- episodes ----------------------------------------------------------------------------------


def episode(first: int, steps: int, device: torch.device | str = "cpu", **flags) -> dict:
    number = torch.arange(first, first + steps + 1, device=device)
    return {
        "state": {"x": number[:, None].float()},
        "action": number[:-1],
        "reward": number[:-1].double(),
        **flags,
    }


def test_an_observation_more_is_the_final_one(device):
    given = Trajectory.from_episodes(
        [
            episode(0, 3, device, terminal=True, truncated=False),
            episode(10, 1, device, terminated=False, truncated=np.bool_(True)),
            episode(20, 2, device, terminated=[False, False], truncated=torch.tensor([False] * 2)),
        ]
    )
    assert given.bounds.tolist() == [0, 3, 4, 6]
    assert given["action"].tolist() == [0, 1, 2, 10, 20, 21]
    assert given["terminated"].tolist() == [False, False, True, False, False, False]
    assert given["truncated"].tolist() == [False, False, False, True, False, False]
    assert given.next("state/x").flatten().tolist() == [1, 2, 3, 11, 21, 22]
    assert given.device.type == given["terminated"].device.type == device.type


def test_without_rewards_the_shortest_column_counts():
    given = Trajectory.from_episodes([{"state": torch.arange(4), "action": torch.arange(3)}])
    assert len(given) == 3 and given.final["state"].tolist() == [3]


def test_one_episode_is_not_copied():
    state = torch.arange(4.0)
    given = Trajectory.from_episodes([{"state": state, "reward": torch.zeros(3)}])
    assert given["state"].data_ptr() == state.data_ptr()


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([], "Trajectory.from_episodes: episodes must be at least 1, got 0"),
        (
            [{"x": [1]}, {"reward": [], "x": [1]}],
            "Trajectory.from_episodes: episode 1 must have at least 1 step, got 0",
        ),
        (
            [{"terminal": True}],
            "Trajectory.from_episodes: episode 0 must have columns other than flags, got terminal",
        ),
        (
            [{"x": [1], "terminal": True, "terminated": True}],
            "Trajectory.from_episodes: episode 0 must have terminal or terminated, got both",
        ),
        ([{"x": [1, 2, 3], "reward": [1.0]}], "Trajectory: reward must have 3 rows like x, got 1"),
        ([{"x": [1]}, {"y": [1]}], "concat: columns must be x, got y"),
        (
            [{"x": [1, 2], "reward": [1.0]}, {"x": [1], "reward": [1.0]}],
            "concat: final: columns must be x, got none",
        ),
    ],
)
def test_episodes_that_do_not_fit_are_refused(episodes, message):
    with pytest.raises(ValueError, match=message):
        Trajectory.from_episodes(episodes)


# -- rollouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "envs"), [(0, 3), (3, 0), (1, 1), (1, 7), (7, 1), (13, 4)])
def test_a_rollout_comes_back_as_it_went_in(steps, envs, device):
    columns = grid(steps, envs, device)
    columns["terminated"] |= columns["truncated"]  # which needs no more than the last observation
    final = {"state": torch.full((envs, 2), 0.5, device=device)}
    given = Trajectory.from_rollout(columns, final=final)
    assert len(given) == steps * envs
    if envs:
        for name, x in given.rollout().items():
            assert torch.equal(x, columns[name]), name
            assert not x.numel() or x.data_ptr() == columns[name].data_ptr(), name
    ends = columns["terminated"] | columns["truncated"]
    ends[-1:] = True
    bounds = ends.t().flatten().nonzero().flatten() + 1
    assert given.bounds.tolist() == [0, *bounds.tolist()]
    for e in range(envs if steps else 0):
        following = given.next("state").view(envs, steps, 2)[e, :, 0]
        wanted = [*(100 * e + torch.arange(1, steps)).tolist(), 0.5]
        assert following.tolist() == wanted


def test_what_followed_a_truncated_step_within_a_rollout_must_be_given(device):
    columns = grid(7, 2, device)
    final = {"state": torch.zeros(2, 2, device=device)}
    with pytest.raises(
        ValueError, match="next_state must be given where episodes are truncated within"
    ):
        Trajectory.from_rollout(columns, final=final)
    # It is the next row where that is the environment's reset alone.
    valid = torch.ones(7, 2, dtype=torch.bool, device=device)
    valid[6] = False
    given = Trajectory.from_rollout(columns, final=final, valid=valid)
    assert torch.equal(given.final["state"][1], columns["state"][6, 0])


def test_other_memory_is_copied_once_into_order():
    columns = {name: x.contiguous() for name, x in grid(5, 3).items()}
    given = Trajectory.from_rollout(columns)
    assert torch.equal(given["action"].view(3, 5), columns["action"].t())
    assert not given.final


def test_what_followed_a_truncated_step_may_be_given(device):
    columns = grid(7, 2, device)
    following = columns["state"].roll(-1, 0).clone()
    following[2], following[5], following[6] = -3, -6, -7
    given = Trajectory.from_rollout({**columns, "next_state": following})
    assert "next_state" not in given
    assert given.final["state"][:, 0].tolist() == [-3, -6, -7] * 2
    assert torch.equal(given.next("state").view(2, 7, 2).transpose(0, 1), following)


def test_rows_that_are_not_valid_are_left_out(device):
    columns = grid(9, 3, device)
    # After each episode comes a row in which the environment only resets itself. Such a row shows
    # what followed the episode's last step.
    reset = torch.zeros(9, 3, dtype=torch.bool, device=device)
    reset[3], reset[6] = True, True
    reset[:, 2] = True  # an environment that does nothing
    final = {"state": torch.full((3, 2), 0.5, device=device)}
    given = Trajectory.from_rollout(columns, final=final, valid=~reset)
    assert given["action"].tolist() == [100 * e + t for e in (0, 1) for t in (0, 1, 2, 4, 5, 7, 8)]
    assert given.lengths.tolist() == [3, 2, 2] * 2
    wanted = [100 * e + t for e in (0, 1) for t in (1, 2, 3, 5, 6, 8, 0.5 - 100 * e)]
    assert given.next("state")[:, 0].tolist() == wanted
    assert "next_state" not in given
    with pytest.raises(ValueError, match=r"Trajectory.rollout: envs must be known, got None"):
        given.rollout()


def test_nothing_valid_is_an_empty_trajectory():
    given = Trajectory.from_rollout(grid(4, 2), valid=torch.zeros(4, 2, dtype=torch.bool))
    assert len(given) == given.segments == 0


def test_an_invalid_row_within_an_episode_keeps_what_really_followed():
    columns = {"x": torch.arange(5)[:, None]}
    valid = torch.tensor([True, True, False, True, True])[:, None]
    given = Trajectory.from_rollout(columns, final={"x": [5]}, valid=valid)
    assert given["x"].tolist() == [0, 1, 3, 4]
    assert given.next("x").tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"columns": {}}, ValueError, "columns must be at least 1, got 0"),
        (
            {"columns": {"x": torch.zeros(3, 2), "y": torch.zeros(2, 3)}},
            ValueError,
            r"y must be \[steps, envs, ...\] like x, got \[2, 3\]",
        ),
        (
            {"columns": {"x": torch.zeros(3)}},
            ValueError,
            r"x must be \[steps, envs, ...\] like x, got \[3\]",
        ),
        (
            {"columns": {"x": [{}]}},
            TypeError,
            "x must be a tensor, got a list",
        ),
        ({"final": {"y": [1]}}, ValueError, "final must name columns, got y"),
        (
            {"final": {"x": torch.zeros(3)}},
            ValueError,
            "final x must have 2 rows, one an environment, got 3",
        ),
        (
            {"final": {"x": torch.zeros(2, 1)}},
            ValueError,
            r"final x must have rows of shape \[\], got \[1\]",
        ),
        ({"final": {"x": [1, 2]}}, TypeError, "final x must be torch.float32, got torch.int64"),
        (
            {"valid": torch.ones(2, 3, dtype=torch.bool)},
            ValueError,
            r"valid must have shape \[3, 2\], got \[2, 3\]",
        ),
        ({"valid": torch.ones(3, 2)}, TypeError, "valid must be bool, got torch.float32"),
    ],
)
def test_rollouts_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match="Trajectory(.from_rollout)?: " + message):
        Trajectory.from_rollout(**{"columns": {"x": torch.zeros(3, 2)}, **arguments})


# -- parts and wholes --------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [[], [1], [2, 0], [0, 0, 1, 2, 2]])
def test_segments_are_selected_in_any_order(chosen, device):
    given = chain(3, 1, 2, device=device)
    rows = [[0, 1, 2], [3], [4, 5]]
    for segments in (chosen, torch.tensor(chosen, dtype=torch.int32), np.array(chosen, int)):
        part = given.select(segments)
        assert numbers(part) == [row for each in chosen for row in rows[each]]
        assert part.lengths.tolist() == [len(rows[each]) for each in chosen]
        assert part.final["state"].flatten().tolist() == [rows[each][-1] + 0.5 for each in chosen]


@pytest.mark.parametrize(("segment", "got"), [(-1, -1), (3, 3)])
def test_segments_that_are_not_there_are_refused(segment, got):
    with pytest.raises(
        IndexError, match=rf"Trajectory.select: segments must be in \[0, 3\), got {got}"
    ):
        chain(3, 1, 2).select([0, segment])


def test_a_mask_of_segments_is_refused():
    with pytest.raises(TypeError, match=r"select: segments must be integers, got torch.bool"):
        chain(3, 1).select(torch.tensor([True, False]))


@pytest.mark.parametrize(
    ("at", "count"), [(0, 0), (1, 1), (4, 4), (0.0, 0), (0.5, 2), (0.74, 2), (0.75, 3), (1.0, 4)]
)
def test_a_split_is_no_copy(at, count):
    given = chain(3, 1, 2, 2)
    first, second = given.split(at)
    assert first.segments == count and second.segments == 4 - count
    assert same(concat([first, second]), given)
    whole = given["state"]
    if len(first):
        assert first["state"].data_ptr() == whole.data_ptr()
    if len(second):
        assert second["state"].data_ptr() == whole[len(first) :].data_ptr()


@pytest.mark.parametrize(
    ("at", "most"), [(-1, "2"), (3, "2"), (1.1, "1.0"), (-0.1, "1.0"), (math.nan, "1.0")]
)
def test_a_split_elsewhere_is_refused(at, most):
    with pytest.raises(
        ValueError, match=rf"Trajectory.split: at must be in \[0, {most}\], got {at}"
    ):
        chain(3, 1).split(at)


def test_trajectories_are_joined(device):
    first, second, empty = (chain(*x, device=device) for x in ((3, 1), (2,), ()))
    joined = concat([first, empty, second])
    assert joined.bounds.tolist() == [0, 3, 4, 6]
    assert numbers(joined) == [0, 1, 2, 3, 0, 1]
    assert joined.final["state"].flatten().tolist() == [2.5, 3.5, 1.5]
    assert concat(iter([first])) is first
    joined["state"].zero_()
    assert first["state"].any()


def test_what_followed_is_joined_even_if_it_is_a_column_of_some(device):
    plain = chain(1, 2, device=device)
    own = chain(2, device=device)
    own = own.with_columns(next_state=own.next("state") + 10)
    assert "next_state" not in plain and "next_state" in own
    for parts in ([plain, own], [own, plain]):
        joined = concat(parts)
        assert torch.equal(joined.next("state"), torch.cat([part.next("state") for part in parts]))
        assert torch.equal(joined.final["state"], torch.cat([x.final["state"] for x in parts]))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], ValueError, "concat: trajectories must be at least 1, got 0"),
        ([{"x": [1]}, {"y": [1]}], ValueError, "concat: columns must be x, got y"),
        ([{"x": [1]}, {"x": [1.0]}], TypeError, "concat: x must be torch.int64, got torch.float32"),
        ([{"x": [1]}, {"x": ["a"]}], TypeError, "concat: x must be a tensor, got a list"),
        (
            [{"x": [[1]]}, {"x": [[1, 2]]}],
            ValueError,
            r"concat: x must have rows of shape \[1\], got \[2\]",
        ),
        (
            [{"x": [1], "next_x": [2]}, {"x": [1]}],
            ValueError,
            "concat: final: columns must be x, got none",
        ),
    ],
)
def test_trajectories_that_differ_are_not_joined(parts, error, message):
    with pytest.raises(error, match=message):
        concat([Trajectory(part) for part in parts])


def test_all_moves_to_a_device(device):
    given = chain(3, 2)
    moved = given.with_columns(info=["a"] * 5).to(device)
    assert moved["state"].device.type == moved.final["state"].device.type == device.type
    assert moved.bounds.device.type == "cpu"
    assert same(moved.to("cpu").without_columns("info"), given)


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("envs", [None, 2])
def test_a_file_gives_back_what_was_saved(envs, tmp_path, device):
    given = Trajectory(
        {
            "state": {"image": torch.arange(24).byte().view(4, 3, 2).mT, "x": [1.5] * 4},
            "info": [{"a": 1, "b": None}, "x", [1, 2], 3.5],
            "terminated": [False, True, False, False],
        },
        [0, 2, 4],
        final={"state": {"x": [2.5, 3.5]}, "info": ["end", {}]},
        envs=envs,
    )  # fmt: skip
    path = tmp_path / "expert.mft"
    given.save(path)
    loaded = Trajectory.load(str(path), device=device)
    assert loaded.device.type == device.type and loaded.bounds.device.type == "cpu"
    assert same(loaded.to("cpu"), given)


def test_an_empty_trajectory_is_saved_as_well(tmp_path):
    given = chain()
    given.save(tmp_path / "empty.mft")
    assert same(Trajectory.load(tmp_path / "empty.mft"), given)


def test_objects_that_are_no_json_are_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.mft"
    chain(2).save(path)
    with pytest.raises(TypeError):
        Trajectory({"x": [object()]}).save(path)
    assert same(Trajectory.load(path), chain(2))
    with pytest.raises(FileNotFoundError):
        Trajectory.load(tmp_path / "b.mft")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.mft"):
        Trajectory.load(path)

"""A replay that goes on from its state is the same one; of files, what they survive."""

from __future__ import annotations

import copy
import errno
import itertools
import os
import pickle
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from machin_fast import ops
from machin_fast.data import Replay, Trajectory
from machin_fast.utils import tensor_file
from saving import Events, files_beside, kill_at, outcomes_of

FRAMES = ("state", "next_state")
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "step": {"priority": "step", "beta_steps": 40},
    "segments": {"priority": "step", "evict": "segment"},
    "windows": {"window": 3},
    "windows by priority": {"window": 3, "priority": "window"},
    "frames": {"frames": FRAMES},
    "stacks": {"frames": FRAMES, "stack": 2, "priority": "step"},
    "windows of stacks": {"frames": FRAMES, "stack": 2, "window": 3, "evict": "segment"},
    "lists": {"lists": True, "priority": "step"},
}
CAPACITY = 20


class Run:
    """The same calls at every start: appends, draws, new priorities."""

    def __init__(self, configuration: str = "uniform", **arguments: Any) -> None:
        settings = {**CONFIGURATIONS[configuration], **arguments}
        self.lists = settings.pop("lists", False)
        self.settings = {"capacity": CAPACITY, "seed": 3, **settings}
        self.replay = self.new()

    def new(self, **arguments: Any) -> Replay:
        return Replay(**{**self.settings, **arguments})

    def step(self, count: int, replay: Replay) -> list[Any]:
        """Appends 3 rows, draws, and gives these rows other priorities; what it saw."""
        rows = self.rows(count)
        replay.append(
            **{k: x.to(replay.device) if isinstance(x, Tensor) else x for k, x in rows.items()}
        )
        batch = replay.sample(6) if replay.window is None else replay.sample_windows(6)
        seen = [batch.index, batch.weight, *batch.columns.values()]
        if replay.priority:
            batch.update_priority((batch.index % 7 + 0.5).float())
        return [x.tolist() if isinstance(x, Tensor) else x for x in seen]

    def rows(self, count: int) -> dict[str, Any]:
        number = torch.arange(3 * count, 3 * count + 3)
        rows: dict[str, Any] = {"number": number, "half": number.float() / 2}
        for i, name in enumerate(self.settings.get("frames", ())):
            stack = self.settings.get("stack", 1)
            time = (count + i + torch.arange(stack)).expand(3, stack)
            rows[name] = torch.stack([time, number[:, None] % 3 + 0 * time], -1).to(torch.uint8)
            rows[name] = rows[name].squeeze(1) if stack == 1 else rows[name]
        if self.lists:
            rows["info"] = [{"n": n, "x": [n / 3, None, "ß"]} for n in number.tolist()]
        return rows

    def steps(self, begin: int, end: int, replay: Replay | None = None) -> list[Any]:
        replay = self.replay if replay is None else replay
        return [self.step(i, replay) for i in range(begin, end)]


def assert_same(got: Any, expected: Any) -> None:
    """Equal bit for bit, whatever it is made of."""
    if isinstance(expected, Tensor):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert torch.equal(got, expected)
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(got[key], value)
    else:
        assert got == expected


def assert_same_replay(got: Replay, expected: Replay) -> None:
    assert_same(got.state_dict(), expected.state_dict())
    if got._priorities is not None:
        nodes = got._priorities.nodes.clone()
        ops.sum_tree_rebuild_(nodes, capacity=got.capacity)
        assert torch.equal(nodes.view(torch.uint8), expected._priorities.nodes.view(torch.uint8))
        assert torch.equal(nodes.view(torch.uint8), got._priorities.nodes.view(torch.uint8))


def by_state(replay: Replay, other: Replay, path: Path) -> None:
    other.load_state_dict(replay.state_dict())


def by_file(replay: Replay, other: Replay, path: Path) -> None:
    replay.save(path)
    other.load(path)


WAYS = pytest.mark.parametrize("take_over", [by_state, by_file])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.replay"


# -- going on ----------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("used", [0, 2, 30], ids="into one of {} steps".format)
@pytest.mark.parametrize("steps", [0, 4, 25])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_another_replay_goes_on_as_if_it_was_the_one(
    configuration, steps, used, take_over, path, device
):
    run = Run(configuration, device=device)
    run.steps(0, steps)
    other = run.new(seed=8)  # it draws otherwise, until it takes over
    run.steps(100, 100 + used, other)
    take_over(run.replay, other, path)
    assert_same_replay(other, run.replay)
    assert run.steps(steps, steps + 12, other) == run.steps(steps, steps + 12)
    assert_same_replay(other, run.replay)


@WAYS
def test_of_what_was_there_before_nothing_stays(take_over, path):
    run = Run("step", alpha=1.0, epsilon=0.0)
    run.replay.append(**run.rows(0))
    other = run.new()
    run.steps(100, 120, other)
    other.update_priority(torch.arange(other.oldest, other.appended), torch.full((20,), 99.0))
    take_over(run.replay, other, path)
    assert other.max_priority == 1
    assert other.stale_updates == 0
    assert other._priorities.leaves.tolist() == [1.0] * 3 + [0.0] * 17
    assert other.sample(1000).index.unique().tolist() == [0, 1, 2]


@WAYS
def test_a_full_one_takes_the_place_of_one_that_is_not(take_over, path):
    run = Run("step")
    run.steps(0, 30)
    other = run.new()
    run.steps(100, 102, other)
    take_over(run.replay, other, path)
    index = torch.arange(70, 90)
    assert torch.equal(other.rows(index).number, index)


def test_a_state_is_a_copy():
    run = Run("stacks")
    run.steps(0, 4)
    state = run.replay.state_dict()
    kept = copy.deepcopy(state)
    run.steps(4, 20)
    run.replay.clear()
    assert_same(state, kept)
    other = run.new()
    other.load_state_dict(state)
    run.steps(4, 20, other)
    assert_same(state, kept)


def test_parameters_that_were_changed_go_along(path):
    run = Run("step")
    run.replay.alpha, run.replay.epsilon = 0.3, 0.5
    run.replay.beta, run.replay.beta_steps = 0.1, 77
    run.steps(0, 3)
    for take_over in (by_state, by_file):
        other = run.new()
        take_over(run.replay, other, path)
        assert (other.alpha, other.epsilon, other.beta, other.beta_steps) == (0.3, 0.5, 0.1, 77)
        assert other.current_beta == run.replay.current_beta


def test_one_without_columns_goes_on(path):
    run = Run("step")
    run.replay.save(path)
    other = run.new(seed=4)
    other.load(path)
    assert run.steps(0, 9, other) == run.steps(0, 9)


def test_one_that_was_cleared_goes_on(path):
    run = Run("windows of stacks")
    run.steps(0, 9)
    run.replay.clear()
    run.replay.save(path)
    other = run.new()
    other.load(path)
    assert len(other) == 0 and other.appended == 27
    assert run.steps(9, 20, other) == run.steps(9, 20)


def test_batches_drawn_before_stay_as_they_are():
    run = Run("step")
    run.steps(0, 4)
    batch = run.replay.sample(5)
    before = batch.index.clone(), batch.number.clone()
    state = run.replay.state_dict()
    run.replay.load_state_dict(state)
    run.replay.sample(5)
    run.replay.sample(5)
    assert torch.equal(batch.index, before[0]) and torch.equal(batch.number, before[1])


def test_a_file_is_read_on_any_device(path, device):
    run = Run("stacks")
    run.steps(0, 15)
    run.replay.save(path)
    other = run.new(device=device)
    other.load(path)
    assert other._priorities.nodes.device.type == device.type
    assert run.steps(15, 25, other) == run.steps(15, 25)


# -- what is refused ---------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    ("configuration", "change", "message"),
    [
        ("step", {"capacity": 21}, "capacity must be 21, got 20"),
        ("step", {"priority": None}, "priority must be None, got 'step'"),
        ("uniform", {"priority": "step"}, "priority must be 'step', got None"),
        ("windows", {"window": 4}, "window must be 4, got 3"),
        ("windows", {"window": None}, "window must be None, got 3"),
        ("uniform", {"evict": "segment"}, "evict must be 'segment', got 'step'"),
        ("frames", {"frames": ()}, r"frames must be \[\], got \['state', 'next_state', 1\]"),
        ("stacks", {"stack": 3}, r"frames must be \['.*', '.*', 3\], got \['.*', '.*', 2\]"),
        ("frames", {"frames": ("state",)}, r"frames must be \['state', 1\], got"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_changed(
    configuration, change, message, take_over, path
):
    run = Run(configuration)
    run.steps(0, 9)
    other = run.new(**change)
    changed = Run(configuration, **change)
    changed.steps(50, 54, other)
    before = other.state_dict()
    with pytest.raises(ValueError, match=f"^Replay.load_state_dict: {message}"):
        take_over(run.replay, other, path)
    assert_same(other.state_dict(), before)


@WAYS
@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"number": torch.zeros(4)}, ValueError, "columns must be number, got number, half"),
        ({"number": torch.zeros(4).long(), "half": torch.zeros(4).double()}, TypeError,
         "half must be torch.float64, got torch.float32"),
        ({"number": torch.zeros(4).long(), "half": torch.zeros(4, 2)}, ValueError,
         r"half must have rows of shape \[2\], got \[\]"),
        ({"number": torch.zeros(4).long(), "half": ["a"] * 4}, TypeError,
         "half must be a list, got a tensor"),
    ],
)  # fmt: skip
def test_other_columns_are_refused_and_nothing_is_changed(columns, error, message, take_over, path):
    run = Run("step")
    run.steps(0, 9)
    other = run.new()
    other.append(**columns)
    before = other.state_dict()
    with pytest.raises(error, match=f"^Replay.load_state_dict: {message}"):
        take_over(run.replay, other, path)
    assert_same(other.state_dict(), before)


@WAYS
@pytest.mark.parametrize("frame", [torch.zeros(3, 2, 5).byte(), torch.zeros(3, 2, 2)])
def test_other_frames_are_refused_and_nothing_is_changed(frame, take_over, path):
    run = Run("stacks")
    run.steps(0, 9)
    other = run.new()
    other.append(**{**run.rows(0), "state": frame, "next_state": frame})
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"^Replay.load_state_dict: frames must be \[[52]\] of"):
        take_over(run.replay, other, path)
    assert_same(other.state_dict(), before)


def test_a_file_of_something_else_is_refused(path):
    Trajectory({"x": torch.zeros(3)}).save(path)
    with pytest.raises(ValueError, match=f"{path} must be of kind 'replay', got 'trajectory'"):
        Replay(4).load(path)
    with pytest.raises(FileNotFoundError, match=f"path must name a file, got {path}x"):
        Replay(4).load(f"{path}x")


@pytest.mark.parametrize("info", [{1, 2}, {(1, 2): 3}, b"x", object()])
def test_objects_that_no_file_holds_are_named_and_none_is_left(info, path):
    replay = Replay(4)
    replay.append(number=torch.arange(2), info=[{"good": 1}, {"bad": info}])
    with pytest.raises(TypeError, match=r"state\['lists'\]\['info'\]\[1\]\['bad'\]"):
        replay.save(path)
    assert not path.exists() and files_beside(path) == []
    other = Replay(4)
    other.load_state_dict(replay.state_dict())  # in memory they may be anything
    assert other.rows(torch.tensor([1])).info == [{"bad": info}]


# -- C1 to C4: files -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_a_few_rows_come_back(rows, dtype, path):
    replay = Replay(4)  # columns that lie in one record, apart from each other
    number = torch.arange(rows)
    replay.append(number=number, other=number.to(dtype), wide=number[:, None].expand(rows, 3))
    replay.save(path)
    other = Replay(4)
    other.load(path)
    assert_same(other.columns, replay.columns)


def saved(path: Path, steps: int = 9) -> Run:
    run = Run("stacks")
    run.steps(0, steps)
    run.replay.save(path)
    return run


@pytest.mark.parametrize("sixteenth", range(16))
def test_a_cut_file_is_found_and_nothing_is_changed(path, sixteenth):
    run = saved(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * sixteenth // 16])
    before = run.replay.state_dict()
    with pytest.raises(ValueError, match=str(path)):
        run.replay.load(path)
    assert_same(run.replay.state_dict(), before)


def test_100_flipped_bits_are_found(path):
    run = saved(path)
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 100):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=str(path)):
            run.new().load(path)


def test_nothing_is_pickled(path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("pickle was called")

    for module, names in (
        (pickle, ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")),
        (torch, ("load", "save")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, fail)
    run = Run("lists")
    run.steps(0, 9)
    run.replay.save(path)
    run.new().load(path)


def kill_while_saving(path: Path) -> Iterator[str]:
    """Over a file of an old replay, kills the save of a newer one; which of them is there then."""
    old = Run("stacks")
    old.steps(0, 5)
    new = Run("stacks")
    new.steps(0, 12)
    with Events() as events:
        new.replay.save(path)
    found = new.new()
    for point in range(1, events.count + 1, max(1, events.count // 50)):
        old.replay.save(path)
        kill_at(point, lambda: new.replay.save(path))
        found.load(path)
        assert_same_replay(found, old.replay if found.appended == 15 else new.replay)
        yield "old" if found.appended == 15 else "new"
    new.replay.save(path)
    found.load(path)
    assert new.steps(12, 15, found) == new.steps(12, 15)


def test_a_kill_while_saving_leaves_a_whole_replay(path):
    outcomes = outcomes_of(__file__, path)
    assert len(outcomes) >= 50
    assert set(outcomes) <= {"old", "new"}
    assert [key for key, _ in itertools.groupby(outcomes)] in (["old"], ["old", "new"])


def test_an_error_while_saving_leaves_the_old_file(path, monkeypatch):
    old = saved(path)
    new = Run("stacks")
    new.steps(0, 30)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        new.replay.save(path)
    monkeypatch.undo()
    assert files_beside(path) == []
    new.replay.load(path)
    assert_same_replay(new.replay, old.replay)


# -- C7: files of earlier versions -----------------------------------------------------------------


def test_a_file_holds_what_it_says(path):
    """Whoever changes this must still read files that were written before."""
    saved(path)
    tensors, content = tensor_file.load(path, kind="replay")
    columns = ("number", "half", "state", "next_state", "_need")
    assert set(tensors) == {
        "state['counters']", "state['largest']", "state['mass']", "state['frames']['memory']",
        "state['frames']['previous']", *(f"state['columns']['{name}']" for name in columns),
    }  # fmt: skip
    assert content["mass"] == {"!tensor": ["state['mass']", "cpu"]}
    assert content["settings"] == {
        "capacity": 20, "priority": "step", "window": None, "evict": "step",
        "frames": ["state", "next_state", 2],
    }  # fmt: skip
    assert content["parameters"] == {
        "beta": 0.4, "beta_steps": None, "alpha": 0.6, "epsilon": 1e-6
    }  # fmt: skip
    assert content["names"] == ["number", "half", "state", "next_state", "_need"]
    assert content["lists"] == {}


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 4, 25])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["deepcopy", "pickle"])  # fmt: skip
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_copy_is_equal_and_independent(configuration, copied, steps, device):
    run = Run(configuration, device=device)
    run.steps(0, steps)
    twin = copied(run.replay)
    assert_same_replay(twin, run.replay)
    before = run.replay.state_dict()
    seen = run.steps(steps, steps + 9, twin)
    assert_same(run.replay.state_dict(), before)
    assert run.steps(steps, steps + 9) == seen
    assert_same_replay(twin, run.replay)


def test_a_pickle_takes_no_more_than_the_columns():
    replay = Replay(10_000, seed=0)
    columns = {f"c{i}": torch.rand(10_000) for i in range(8)}
    replay.append(**columns)
    whole = pickle.dumps(replay)
    assert len(whole) < 1.1 * replay.nbytes()
    again = pickle.loads(whole)
    assert again.nbytes() == replay.nbytes()
    assert torch.equal(again.sample(64).c3, replay.sample(64).c3)


def test_what_is_no_state_is_refused():
    with pytest.raises(ValueError, match="capacity must be 4, got 'none'"):
        Replay(4).load_state_dict({})
    state = Replay(4).state_dict()
    del state["columns"]
    with pytest.raises(
        ValueError, match="state must be that of such a replay, got none of columns"
    ):
        Replay(4).load_state_dict(state)


if __name__ == "__main__":  # of the test of kills: a process of one thread, which may fork
    torch.set_num_threads(1)
    print(*kill_while_saving(Path(sys.argv[1])))

"""``Replay`` against a plain list of rows, for every way to make one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor

from machin_fast import ops
from machin_fast.data import Batch, Replay, Trajectory

ALPHA, BETA, EPSILON = 0.7, 0.4, 0.01
FRAMES = ("state", "next_state")
ENVS = 3

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "step": {"priority": "step"},
    "segments": {"evict": "segment"},
    "segments by step": {"evict": "segment", "priority": "step"},
    "windows": {"window": 3},
    "windows by priority": {"window": 3, "priority": "window"},
    "windows of one step": {"window": 1, "priority": "window"},
    "frames": {"frames": FRAMES},
    "stacks": {"frames": FRAMES, "stack": 2, "priority": "step"},
    "stacks in one column": {"frames": ("state",), "stack": 2},
    "stacks in segments": {"frames": FRAMES, "stack": 2, "evict": "segment"},
    "windows of stacks": {"frames": FRAMES, "stack": 2, "window": 3, "priority": "window"},
    "lists": {"lists": True, "priority": "step"},
    "lists in windows": {"lists": True, "window": 3},
}

# Of each configuration, 560 in all.
PROGRAMS = settings(max_examples=40, stateful_step_count=15)


@dataclass
class Row:
    """A row that is in the memory."""

    columns: dict[str, Any]
    left: int  # steps to the end of its segment
    mass: float


@dataclass
class Model:
    """What ``Replay`` promises, in plain Python."""

    capacity: int
    priority: str | None = None
    window: int | None = None
    evict: str | None = None
    appended: int = 0
    oldest: int = 0
    stale: int = 0
    draws: int = 0
    largest: float = 1.0
    rows: dict[int, Row] = field(default_factory=dict)

    @property
    def keeps_segments(self) -> bool:
        return self.evict == "segment" or self.window is not None

    def begins_window(self, left: list[int], i: int) -> bool:
        """Whether one may begin with the i-th of new rows, which have so many steps left."""
        return self.window is None or left[i] >= self.window or i == 0 or left[i - 1] == 1

    def append(
        self, columns: dict[str, list[Any]], n: int, lengths: list[int], given: list[float] | None
    ) -> None:
        left = [length - i for length in lengths for i in range(length)]
        skipped = max(0, n - self.capacity)
        if self.keeps_segments and skipped:
            skipped = min(i for i in range(skipped, n) if left[i - 1] == 1)
        first = self.appended + skipped
        self.leave(max(self.appended + n - self.capacity, first if skipped else 0))
        for i in range(skipped, n):
            priority = self.largest if given is None else given[i]
            mass = (priority + EPSILON) ** ALPHA if self.priority else 1.0
            mass *= self.begins_window(left, i)
            row = {name: column[i] for name, column in columns.items()}
            self.rows[self.appended + i] = Row(row, left[i], mass)
        self.appended += n
        self.oldest = min(self.rows, default=self.appended)
        self.largest = max([self.largest, *(given or [])[skipped:]])

    def leave(self, oldest: int) -> None:
        """Forgets rows before ``oldest``; with a part of a segment, all of it."""
        before = self.rows.get(oldest - 1)
        if self.keeps_segments and before is not None and before.left > 1:
            oldest += before.left - 1
        for number in [number for number in self.rows if number < oldest]:
            del self.rows[number]
        self.oldest = min(self.rows, default=self.appended)

    def update(self, index: list[int], priority: list[float]) -> None:
        for number, value in zip(index, priority, strict=True):
            self.stale += number not in self.rows
            if number in self.rows and self.rows[number].mass:  # no window begins with others
                self.rows[number].mass = (value + EPSILON) ** ALPHA
                self.largest = max(self.largest, value)

    def weight(self, number: int) -> float:
        if self.priority is None:
            return 1.0
        masses = [row.mass for row in self.rows.values() if row.mass]
        probability, least = (mass / sum(masses) for mass in (self.rows[number].mass, min(masses)))
        n = len(masses)
        return (n * probability) ** -BETA / (n * least) ** -BETA


class ReplayMachine(RuleBasedStateMachine):
    """Any calls, on a replay and on its model."""

    configuration: dict[str, Any]
    device: torch.device

    @initialize(capacity=st.integers(4, 24), seed=st.integers(0, 2**63 - 1))
    def make(self, capacity: int, seed: int) -> None:
        settings = dict(self.configuration)
        self.lists = settings.pop("lists", False)
        self.least_rows = int(self.lists)  # an empty list is no column of objects
        self.arguments = {
            "capacity": capacity, "device": self.device, "seed": seed,
            "alpha": ALPHA, "beta": BETA, "epsilon": EPSILON, **settings,
        }  # fmt: skip
        self.replay = Replay(**self.arguments)
        self.frames = settings.pop("frames", ())
        self.stack = settings.pop("stack", 1)
        self.model = Model(capacity, **settings)
        self.random = torch.Generator().manual_seed(seed)
        self.stamp = 0
        self.streams = [self.new_stack() for _ in range(ENVS)]

    # -- rows ------------------------------------------------------------------------------------

    def new_frame(self) -> Tensor:
        """One of few, so that frames are equal by chance, too."""
        return torch.randint(5, (3,), generator=self.random, dtype=torch.uint8) // 4 * 255

    def new_stack(self) -> Tensor:
        return self.new_frame().expand(self.stack, 3)

    def step(self, env: int) -> tuple[Tensor, Tensor]:
        """State and next state of an environment that begins anew at times."""
        state = self.streams[env]
        self.streams[env] = following = torch.cat([state[1:], self.new_frame()[None]])
        if not torch.randint(4, (), generator=self.random):
            self.streams[env] = self.new_stack()
        return state, following

    def new_rows(self, n: int, *, of_one: bool) -> dict[str, Any]:
        """Rows, each one different from all others but for its frames."""
        number = torch.arange(self.stamp, self.stamp + n)
        self.stamp += n
        columns: dict[str, Any] = {
            "action": number,
            "reward": number[:, None].double() / torch.tensor([3.0, 7.0, 11.0]),
            "terminated": torch.zeros(n, dtype=torch.bool),
        }
        if self.lists:
            columns["info"] = [{"number": i} for i in number.tolist()]
            columns["name"] = [f"row {i}" for i in number.tolist()]
        for name in self.frames:
            columns[name] = torch.empty(n, self.stack, 3, dtype=torch.uint8)
        for i in range(n if self.frames else 0):
            for name, frames in zip(FRAMES, self.step(0 if of_one else i % ENVS), strict=True):
                if name in columns:
                    columns[name][i] = frames
        for name in self.frames if self.stack == 1 else ():
            columns[name] = columns[name].squeeze(1)
        return columns

    def most_rows(self) -> int:
        """That one call can bring; of frames only so many are new at once."""
        if not self.frames:
            return 3 * self.model.capacity
        return self.model.capacity // (len(self.frames) * self.stack)

    def everything(self) -> dict[str, Any]:
        return dict(self.replay.state_dict())

    def after_append(self, columns: dict[str, Any], lengths: list[int], given: Any = None) -> None:
        n = len(columns["action"])
        self.model.append({k: list(x) for k, x in columns.items()}, n, lengths, given)
        if self.frames:  # rows may leave earlier, as their frames are needed for others
            assert (
                self.model.oldest
                <= self.replay.oldest
                <= max(self.model.appended - n, self.model.oldest)
            )
            self.model.leave(self.replay.oldest)

    # -- adding ----------------------------------------------------------------------------------

    @rule(share=st.floats(0, 1), with_priority=st.booleans(), as_arrays=st.booleans())
    def append_columns(self, share: float, with_priority: bool, as_arrays: bool) -> None:
        n = max(self.least_rows, int(share * self.most_rows()))
        columns = self.new_rows(n, of_one=self.model.keeps_segments)
        more: dict[str, Any] = {}
        given = None
        if self.model.priority and with_priority:
            more["priority"] = torch.rand(n, generator=self.random) ** 4 * 9
            given = more["priority"].tolist()
        if self.model.keeps_segments and n > self.model.capacity:
            self.assert_refused(ValueError, "a segment must have at most", **columns, **more)
            return
        arrays = {
            k: x.numpy() if as_arrays and isinstance(x, Tensor) else x for k, x in columns.items()
        }
        self.replay.append(**arrays, **more)
        self.after_append(columns, [n] if n else [], given)

    @rule(data=st.data())
    def append_trajectory(self, data: st.DataObject) -> None:
        longest = min(self.most_rows(), self.model.capacity + 2)
        lengths = data.draw(
            st.lists(st.integers(1, max(1, longest)), min_size=self.least_rows, max_size=4),
            "lengths",
        )
        while sum(lengths) > self.most_rows() and self.frames:
            lengths.pop()
        columns = self.new_rows(sum(lengths), of_one=True)
        bounds = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        trajectory = Trajectory(columns, bounds)
        if self.model.keeps_segments and max(lengths, default=0) > self.model.capacity:
            self.assert_refused(ValueError, "a segment must have at most", trajectory)
            return
        self.replay.append(trajectory)
        self.after_append(columns, lengths)

    @precondition(lambda self: len(self.replay))
    @rule(
        bad=st.sampled_from(
            ["name", "missing", "length", "dtype", "shape", "kind", "priority", "scalar"]
        )
    )
    def append_bad_rows(self, bad: str) -> None:
        rows = self.new_rows(2, of_one=True)
        error: type[Exception] = ValueError
        if bad == "name":
            rows["other"] = rows["action"]
        elif bad == "missing":
            del rows["reward"]
        elif bad == "length":
            rows["reward"] = rows["reward"][:1]
        elif bad == "dtype":
            rows["action"], error = rows["action"].int(), TypeError
        elif bad == "shape":
            rows["reward"] = rows["reward"][:, :2]
        elif bad == "kind":
            rows["action"], error = ["a", "b"], TypeError
        elif bad == "priority":
            rows["priority"] = torch.tensor([1.0, -1.0])  # a column too many if there are none
        else:
            rows["action"] = torch.tensor(1)
        self.assert_refused(error, "must", **rows)

    @precondition(lambda self: self.frames)
    @rule()
    def append_too_many_new_frames(self) -> None:
        n = self.replay._frames.capacity + 1
        count = torch.arange(self.stack * n).view(n, self.stack)
        frame = torch.stack([count % 256, count // 256, torch.full_like(count, 9)], -1)
        frame = frame.to(torch.uint8) if self.stack > 1 else frame[:, 0].to(torch.uint8)
        rows = self.new_rows(self.model.capacity, of_one=True)
        tail = slice(n - self.model.capacity, None)
        for i, name in enumerate(self.frames):
            rows[name] = (frame + torch.tensor([0, 0, i], dtype=torch.uint8))[tail]
        if len(self.frames) * self.stack * self.model.capacity > self.replay._frames.capacity:
            self.assert_refused(ValueError, "must bring at most .* new frames", **rows)

    def assert_refused(self, error: type[Exception], message: str, *args: Any, **rows: Any) -> None:
        before = self.everything()
        with pytest.raises(error, match=message):
            self.replay.append(*args, **rows)
        assert_same(self.everything(), before)

    # -- drawing ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.replay) and self.model.window is None)
    @rule(n=st.integers(1, 20))
    def sample(self, n: int) -> None:
        batch = self.replay.sample(n)
        self.model.draws += 1
        self.assert_rows(batch, batch.index)
        self.assert_weights(batch)

    @precondition(lambda self: len(self.replay) and self.model.window)
    @rule(n=st.integers(1, 20))
    def sample_windows(self, n: int) -> None:
        window = self.model.window
        assert window is not None
        batch = self.replay.sample_windows(n, burn_in=window - 1)
        self.model.draws += 1
        assert batch.burn_in == window - 1
        self.assert_weights(batch)
        left = torch.tensor([self.model.rows[number].left for number in batch.index.tolist()])
        step = torch.arange(window)[:, None]
        assert torch.equal(batch.mask.cpu(), step < left)
        self.assert_rows(batch, batch.index.cpu() + torch.minimum(step, left - 1))

    def assert_rows(self, batch: Batch, index: Tensor) -> None:
        """Each row is the one of that number."""
        rows = [self.model.rows[number] for number in index.flatten().tolist()]
        assert batch.columns.keys() == (rows[0].columns.keys() if rows else batch.columns.keys())
        for name, column in batch.columns.items():
            expected = [row.columns[name] for row in rows]
            if isinstance(column, list):
                assert column == expected, name
            elif expected:
                assert column.shape[: index.dim()] == index.shape
                assert torch.equal(column.flatten(0, index.dim() - 1).cpu(), torch.stack(expected))

    def assert_weights(self, batch: Batch) -> None:
        masses = [self.model.rows[number].mass for number in batch.index.tolist()]
        assert all(masses)
        expected = torch.tensor([self.model.weight(number) for number in batch.index.tolist()])
        torch.testing.assert_close(batch.weight.cpu(), expected, rtol=1e-5, atol=0)

    # -- priorities ------------------------------------------------------------------------------

    @precondition(lambda self: self.model.priority and self.model.appended)
    @rule(data=st.data())
    def update_priority(self, data: st.DataObject) -> None:
        last = self.model.appended - 1
        near = st.integers(max(0, self.model.oldest - 2), min(self.model.oldest + 2, last))
        some = st.one_of(near, st.integers(0, last))
        pairs = st.tuples(some, st.floats(0, 100, width=32))
        drawn = data.draw(st.lists(pairs, max_size=20), "priorities")
        index, priority = [i for i, _ in drawn], [p for _, p in drawn]
        self.replay.update_priority(
            torch.tensor(index, dtype=torch.int64, device=self.device),
            torch.tensor(priority, device=self.device),
        )
        self.model.update(index, priority)

    @precondition(lambda self: self.model.priority and self.model.appended)
    @rule(data=st.data())
    def update_badly(self, data: st.DataObject) -> None:
        good = st.tuples(st.integers(0, self.model.appended - 1), st.floats(0, 100, width=32))
        bad_index = st.sampled_from([-1, self.model.appended, 2**40, -(2**63), 2**63 - 1])
        bad_priority = st.sampled_from([float("nan"), float("inf"), -float("inf"), -1.0])
        drawn = data.draw(st.lists(good, max_size=5), "good")
        wrong = st.one_of(st.tuples(bad_index, st.just(1.0)), st.tuples(st.just(0), bad_priority))
        drawn.insert(data.draw(st.integers(0, len(drawn))), data.draw(wrong, "wrong"))
        index, priority = (torch.tensor(x, device=self.device) for x in zip(*drawn, strict=True))
        before = self.everything()
        with pytest.raises(
            (IndexError, ValueError), match=r"Replay.update_priority: .* at position"
        ):
            self.replay.update_priority(index, priority)
        assert_same(self.everything(), before)

    # -- the whole of it -------------------------------------------------------------------------

    @rule()
    def clear(self) -> None:
        self.replay.clear()
        self.model.rows.clear()
        self.model.oldest = self.model.appended
        self.model.largest = 1.0

    @rule(through_file=st.booleans())
    def go_on_with_another(self, through_file: bool) -> None:
        other = Replay(**self.arguments)
        if through_file:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "replay"
                self.replay.save(path)
                other.load(path)
        else:
            other.load_state_dict(self.replay.state_dict())
        assert_same(other.state_dict(), self.everything())
        if len(other):
            draw = "sample" if self.model.window is None else "sample_windows"
            got, expected = getattr(other, draw)(5), getattr(self.replay, draw)(5)
            self.model.draws += 1
            assert torch.equal(got.index, expected.index)
            assert torch.equal(got.weight, expected.weight)
            assert_same(got.columns, expected.columns)
        self.replay = other

    # -- always ----------------------------------------------------------------------------------

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "replay"):
            return
        model, replay = self.model, self.replay
        assert len(replay) == len(model.rows)
        assert (replay.appended, replay.oldest) == (model.appended, model.oldest)
        assert replay.stale_updates == model.stale
        assert replay._counters.draws == model.draws

    @invariant()
    def all_rows_are_there(self) -> None:
        if not hasattr(self, "replay") or not len(self.replay):
            return
        replay, model = self.replay, self.model
        index = torch.arange(replay.oldest, replay.appended)
        self.assert_rows(replay.rows(index), index)
        if model.keeps_segments:
            assert replay.left(index).tolist() == [row.left for row in model.rows.values()]

    @invariant()
    def priorities_are_right(self) -> None:
        if not hasattr(self, "replay") or self.replay._priorities is None:
            return
        replay, model = self.replay, self.model
        expected = torch.tensor([row.mass for row in model.rows.values()])
        tree = replay._priorities
        alive = torch.arange(replay.oldest, replay.appended) % replay.capacity
        torch.testing.assert_close(tree.leaves.cpu()[alive], expected, rtol=1e-6, atol=0)
        assert tree.leaves.count_nonzero() == expected.count_nonzero()  # none of rows that left
        rebuilt = tree.nodes.clone()
        ops.sum_tree_rebuild_(rebuilt, capacity=replay.capacity)
        assert torch.equal(rebuilt.view(torch.uint8), tree.nodes.view(torch.uint8))
        if model.priority:
            assert torch.equal(replay.masses(), tree.leaves[alive.to(self.device)])
            assert replay.max_priority == model.largest


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


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_any_program_agrees_with_a_plain_list(configuration, device):
    class Machine(ReplayMachine):
        pass

    Machine.configuration = CONFIGURATIONS[configuration]
    Machine.device = device
    run_state_machine_as_test(Machine, settings=PROGRAMS)

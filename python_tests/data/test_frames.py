"""Frames that rows share: exact for all rows that are there, and each in memory once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle, islice

import pytest
import torch
from torch import Tensor

from machin_fast.data import Replay, Trajectory
from machin_fast.data.frames import Frames

BOTH = ("state", "next_state")


class Stream:
    """Stacks of one environment, as vectors of environments give them.

    Its frames are all different, but for those that ``repeat`` says.
    """

    def __init__(
        self,
        number: int,
        lengths: Iterator[int],
        *,
        stack: int = 4,
        shape: tuple[int, ...] = (2, 4),
        dtype: torch.dtype = torch.uint8,
        autoreset: str = "same step",
        repeat: int = 1,
    ) -> None:
        self.frames = 0  # that were different
        self.rows = 0
        self._number = number
        self._lengths = lengths
        self._shape, self._dtype = shape, dtype
        self._stack = stack
        self._autoreset = autoreset
        self._repeat = repeat
        self._shown = 0
        self._begin()

    def _begin(self) -> None:
        self._left = next(self._lengths)
        self._state = self._frame().expand(self._stack, *self._shape)

    def _frame(self) -> Tensor:
        if self._shown % self._repeat == 0:
            self.frames += 1
        self._shown += 1
        flat = torch.full((math.prod(self._shape),), self.frames % 250, dtype=self._dtype)
        flat[0] = self.frames // 250
        flat[-1] = self._number
        return flat.view(1, *self._shape)

    def step(self) -> tuple[Tensor, Tensor, bool]:
        """State, next state, and whether the episode ended."""
        self.rows += 1
        state = self._state
        if self._left == 0:  # the step that only begins anew
            self._begin()
            return state, self._state, False
        self._left -= 1
        self._state = following = torch.cat([state[1:], self._frame()])
        if self._left == 0 and self._autoreset == "same step":
            self._begin()
            return state, following, True
        return state, following, self._left == 0


def streams(envs: int, lengths: list[int], **options: object) -> list[Stream]:
    """Environments that are at different places of the same episodes' lengths."""
    return [Stream(i, islice(cycle(lengths), i, None), **options) for i in range(envs)]


class Twin:
    """A replay with frames, and the rows it was given."""

    def __init__(self, replay: Replay, names: tuple[str, ...] = BOTH) -> None:
        self.replay = replay
        self.names = names
        self.rows: dict[str, list[Tensor]] = {name: [] for name in names}

    def step(self, environments: list[Stream]) -> None:
        """Appends one step of all environments."""
        steps = [environment.step() for environment in environments]
        state, following, _ = zip(*steps, strict=True)
        self.append({"state": torch.stack(state), "next_state": torch.stack(following)})

    def append(self, rows: dict[str, Tensor]) -> None:
        rows = {name: rows[name] for name in self.names}
        if self.replay._frames.stack == 1:
            rows = {name: x.squeeze(1) for name, x in rows.items()}
        first = self.replay.appended
        n = len(rows[self.names[0]])
        device = self.replay.device
        number = torch.arange(first, first + n, device=device)
        self.replay.append(**{k: x.to(device) for k, x in rows.items()}, number=number)
        self.remember(rows)

    def remember(self, rows: dict[str, Tensor]) -> None:
        for name, kept in self.rows.items():
            kept.extend(rows[name])

    def check(self) -> None:
        """All rows that are there are what they were, bit for bit."""
        replay = self.replay
        index = torch.arange(replay.oldest, replay.appended, device=replay.device)
        if len(replay):
            batch = replay.rows(index)
            assert torch.equal(batch.number, index)
            for name, rows in self.rows.items():
                assert same_bits(batch[name].cpu(), torch.stack(rows[replay.oldest :])), name


def same_bits(got: Tensor, expected: Tensor) -> bool:
    return (
        got.dtype == expected.dtype
        and got.shape == expected.shape
        and torch.equal(got.view(torch.uint8), expected.view(torch.uint8))
    )


def snapshot(replay: Replay) -> list[object]:
    state = replay.state_dict()
    kept = [state.pop("columns"), state["frames"].pop("memory"), state["frames"].pop("previous")]
    return [str(kept), str(state), len(replay)]


# -- rows come back ----------------------------------------------------------------------------


@pytest.mark.parametrize("names", [BOTH, ("state",)], ids=["both", "state"])
@pytest.mark.parametrize("autoreset", ["same step", "next step"])
@pytest.mark.parametrize("lengths", [[1, 2, 5], [70, 90]], ids=["short", "long"])
@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize("stack", [1, 2, 4])
def test_all_rows_are_exact_always(stack, envs, lengths, autoreset, names, device):
    replay = Replay(40, device=device, frames=names, stack=stack, seed=0)
    twin = Twin(replay, names)
    environments = streams(envs, lengths, stack=stack, autoreset=autoreset)
    for _ in range(150 // envs):
        twin.step(environments)
        twin.check()
        batch = replay.sample(7)
        for name in names:
            expected = torch.stack([twin.rows[name][i] for i in batch.index.tolist()])
            assert torch.equal(batch[name].cpu(), expected)


@pytest.mark.parametrize("autoreset", ["same step", "next step"])
@pytest.mark.parametrize("stack", [1, 4])
def test_a_row_of_long_episodes_takes_one_frame(stack, autoreset, device):
    replay = Replay(500, device=device, frames=BOTH, stack=stack)
    twin = Twin(replay)
    environments = streams(4, [60, 75, 110], stack=stack, autoreset=autoreset)
    for _ in range(400):
        twin.step(environments)
        assert len(replay) == min(replay.appended, 500)
    assert replay._frames._stored == sum(each.frames for each in environments)
    assert replay._frames._stored <= 1.03 * replay.appended
    twin.check()


def test_rows_of_short_episodes_leave_early_and_are_exact():
    replay = Replay(1_000, frames=BOTH, stack=4, priority="step", seed=0)
    twin = Twin(replay)
    environments = streams(4, [3])  # 4 frames for 3 rows
    for _ in range(600):
        twin.step(environments)
    twin.check()
    assert 1_048 * 3 // 4 - 16 <= len(replay) <= 1_048 * 3 // 4
    assert replay._priorities.leaves.count_nonzero() == len(replay)
    assert replay.sample(1_000).index.min() >= replay.oldest


def test_the_number_of_environments_may_change():
    replay = Replay(60, frames=BOTH, stack=2)
    twin = Twin(replay)
    environments = streams(5, [4, 30], stack=2)
    for step in range(100):
        twin.step(environments[: (3, 5, 1, 5, 2)[step // 7 % 5]])
        twin.check()


def test_other_rows_than_the_next_step_share_nothing_and_are_exact():
    replay = Replay(60, frames=BOTH, stack=3)
    twin = Twin(replay)
    random = torch.Generator().manual_seed(0)
    for calls in range(1, 30):
        rows = torch.randint(256, (2, 3, 3, 8), generator=random, dtype=torch.uint8)
        twin.append(dict(zip(BOTH, rows, strict=True)))
        assert replay._frames._stored == calls * rows[..., 0].numel()
        twin.check()


def test_frames_that_are_equal_by_chance_are_exact():
    replay = Replay(50, frames=BOTH, stack=3)
    twin = Twin(replay)
    random = torch.Generator().manual_seed(0)
    for _ in range(200):
        rows = torch.randint(2, (2, 4, 3, 1), generator=random, dtype=torch.uint8)
        twin.append(dict(zip(BOTH, rows, strict=True)))
        twin.check()


@pytest.mark.parametrize("names", [BOTH, ("state",)], ids=["both", "state"])
def test_a_stream_that_stands_still_does_not_take_all_rows_along(names):
    replay = Replay(100, frames=names, stack=2)
    twin = Twin(replay, names)
    environments = [
        *streams(1, [10**6], stack=2, repeat=10**6), *streams(3, [10**6], stack=2)
    ]  # fmt: skip
    for step in range(200):
        twin.step(environments)
        assert len(replay) >= min(4 * step, 80)
        twin.check()


def test_a_stream_of_one_episode_a_step_does_not_take_all_rows_along():
    replay = Replay(100, frames=BOTH, stack=2)
    twin = Twin(replay)
    begin = torch.zeros(2, 1, dtype=torch.uint8)
    for step in range(200):
        end = torch.tensor([[0], [1 + step]], dtype=torch.uint8)
        other = torch.tensor([[step + 1], [step + 2]], dtype=torch.uint8)
        states, following = torch.stack([begin, other]), torch.stack([end, other + 1])
        twin.append({"state": states, "next_state": following})
        assert len(replay) >= min(2 * step, 40)
        twin.check()


def test_rows_that_leave_as_they_come_are_not_drawn():
    replay = Replay(8, frames=BOTH, priority="step", seed=0)  # too few for four environments
    twin = Twin(replay)
    environments = streams(4, [100], stack=1)
    for _ in range(20):
        twin.step(environments)
        twin.check()
        assert replay._priorities.leaves.count_nonzero() == len(replay)
        if len(replay):
            assert replay.sample(50).index.min() >= replay.oldest


def test_no_rows_are_fine():
    replay = Replay(10, frames=BOTH)
    none = torch.zeros(0, 4)
    replay.append(state=none, next_state=none)
    one = torch.arange(4.0)[None]
    replay.append(state=one, next_state=one + 1)
    replay.append(state=none, next_state=none)
    replay.append(state=one + 1, next_state=one + 2)
    assert replay._frames._stored == 3  # the step between did not end the stream
    assert torch.equal(replay.rows(torch.tensor([0, 1])).state, torch.cat([one, one + 1]))


def test_it_goes_on_after_a_clear():
    replay = Replay(30, frames=BOTH, stack=2)
    twin = Twin(replay)
    environments = streams(2, [9], stack=2)
    for step in range(60):
        if step % 22 == 21:
            replay.clear()
            assert len(replay) == 0
        twin.step(environments)
        twin.check()


# -- what frames may be ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (8,), (1,), (3, 5)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.float64])
def test_frames_of_any_size_and_dtype_are_shared(dtype, shape, device):
    replay = Replay(30, device=device, frames=BOTH, stack=2)
    twin = Twin(replay)
    # Of one number, the frames of both are the same; they share in time all the same.
    environments = streams(2, [15], stack=2, shape=shape, dtype=dtype)
    for _ in range(40):
        twin.step(environments)
        twin.check()
    assert replay._frames._stored <= sum(each.frames for each in environments)
    assert replay.nbytes() < 1.3 * 30 * (math.prod(shape) * dtype.itemsize + 8 * 6)


def test_nan_and_both_zeros_are_kept_and_shared_bit_for_bit():
    replay = Replay(20, frames=BOTH)
    twin = Twin(replay)
    values = torch.tensor([math.nan, -math.nan, 0.0, -0.0, math.inf, 1.0])
    values = torch.cat([values, torch.tensor([2143289345], dtype=torch.int32).view(torch.float32)])
    states = torch.stack([values.roll(i) for i in range(30)])[:, None, None]
    for i in range(29):
        twin.append({"state": states[i], "next_state": states[i + 1]})
        twin.check()
    assert replay._frames._stored == 30


def test_a_frame_may_be_one_number():
    replay = Replay(20, frames=BOTH)
    for i in range(50):
        replay.append(state=torch.tensor([i]), next_state=torch.tensor([i + 1]))
    assert replay._frames._stored == 51
    batch = replay.rows(torch.arange(30, 50))
    assert torch.equal(batch.state, torch.arange(30, 50))
    assert torch.equal(batch.next_state, torch.arange(31, 51))


def test_the_caller_may_change_what_was_appended():
    replay = Replay(20, frames=BOTH, stack=2)
    state = torch.arange(2.0)[None]
    replay.append(state=state, next_state=state + 1)
    state.fill_(9)
    assert replay.rows(torch.tensor([0])).state.tolist() == [[0, 1]]


# -- trajectories ------------------------------------------------------------------------------


def trajectory(lengths: list[int], *, stack: int = 2) -> Trajectory:
    """One stream of episodes, without the states that only follow."""
    stream = Stream(0, iter([*lengths, 1]), stack=stack)
    steps = [stream.step() for _ in range(sum(lengths))]
    state, following, ended = (list(x) for x in zip(*steps, strict=True))
    made = Trajectory(
        {
            "state": torch.stack(state),
            "next_state": torch.stack(following),
            "terminated": torch.tensor(ended),
            "number": torch.arange(len(steps)),
        }
    )
    assert made.lengths.tolist() == lengths and "next_state" not in made
    return made


def assert_rows_of(replay: Replay, made: Trajectory) -> None:
    batch = replay.rows(torch.arange(replay.oldest, replay.appended))
    assert torch.equal(batch.state, made["state"][batch.number])
    assert torch.equal(batch.next_state, made.next("state")[batch.number])


@pytest.mark.parametrize("evict", ["step", "segment"])
def test_a_trajectory_is_stored_with_one_frame_a_step_and_one_an_episode(evict):
    replay = Replay(100, frames=BOTH, stack=2, evict=evict)
    made = trajectory([20, 1, 30, 7])
    replay.append(made)
    assert replay._frames._stored == 58 + 4
    assert len(replay) == 58
    assert_rows_of(replay, made)


@pytest.mark.parametrize("evict", ["step", "segment"])
@pytest.mark.parametrize("lengths", [[10, 35], [7, 8, 9, 20]])
def test_of_a_longer_trajectory_the_last_rows_are_kept(lengths, evict):
    replay = Replay(40, frames=BOTH, stack=2, evict=evict)
    made = trajectory(lengths)
    replay.append(made)
    kept = 40
    if evict == "segment":
        kept = max(sum(lengths[i:]) for i in range(len(lengths)) if sum(lengths[i:]) <= 40)
    assert len(replay) == kept
    assert_rows_of(replay, made)


@pytest.mark.parametrize("lengths", [[3] * 13, [1] * 40])
def test_a_trajectory_of_too_many_short_episodes_is_refused(lengths):
    replay = Replay(40, frames=BOTH, stack=2)
    new = sum(lengths) + len(lengths)
    message = f"Replay.append: state must bring at most 45 new frames at once, got {new}"
    with pytest.raises(ValueError, match=message):
        replay.append(trajectory(lengths))
    assert len(replay) == 0


def test_the_first_row_follows_nothing():
    # Were it to follow the last one, frames that are all alike would stand for each other in turn.
    for lengths in ([6], [9], [4, 5], [1, 2, 3, 4]):
        replay = Replay(7, frames=BOTH, stack=2)
        state = torch.zeros(sum(lengths), 2, 3)
        bounds = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        replay.append(Trajectory({"state": state, "next_state": state}, bounds))
        assert replay._frames._stored <= 2
        kept = torch.arange(replay.oldest, replay.appended)
        assert torch.equal(replay.rows(kept).next_state, state[kept])


def test_steps_and_trajectories_may_take_turns():
    replay = Replay(80, frames=BOTH, stack=2)
    environments = streams(3, [5, 50], stack=2)
    twin = Twin(replay)
    for i in range(30):
        if i % 4 == 3:
            made = trajectory([3 + i % 5, 6])
            number = torch.arange(replay.appended, replay.appended + len(made))
            replay.append(made.without_columns("terminated").with_columns(number=number))
            twin.remember({"state": made["state"], "next_state": made.next("state")})
        else:
            twin.step(environments)
        twin.check()


def test_windows_of_stacks_are_exact():
    replay = Replay(200, frames=BOTH, stack=2, window=5, seed=0)
    made = trajectory([20, 3, 30, 7])
    replay.append(made)
    batch = replay.sample_windows(40)
    assert batch.state.shape == (5, 40, 2, 2, 4)
    assert torch.equal(batch.state, made["state"][batch.number])
    assert torch.equal(batch.next_state, made.next("state")[batch.number])


# -- memory ------------------------------------------------------------------------------------


def test_memory_of_a_row_is_about_one_frame():
    replay = Replay(500, frames=BOTH, stack=4)
    state = torch.zeros(8, 4, 84, 84, dtype=torch.uint8)
    replay.append(state=state, next_state=state, action=torch.zeros(8, dtype=torch.int64))
    numbers = 2 * 4 * 8 + 8 + 8  # of frames, of the oldest that is needed, and the action
    assert replay.nbytes() <= 500 * 1.05 * 84 * 84 + 2 * 4 * 84 * 84 + 500 * numbers
    # A million rows: 7.5 GB, where rows with frames of their own would take 56 GB.
    assert 1e6 * (1.04 * 84 * 84 + numbers) < 7.5e9


def test_memory_is_taken_with_the_first_frames():
    frames = Frames(BOTH, 4, 1_000, torch.device("cpu"))
    assert frames.nbytes() == 0
    new = torch.arange(32, dtype=torch.uint8).view(1, 4, 8)
    number, need = frames.encode({"state": new, "next_state": new}, None)
    assert frames.nbytes() == 0  # not before they are written
    frames.write()
    assert frames.nbytes() == frames.capacity * 8 == 1_048 * 8
    assert torch.equal(frames.decode(number["state"]), new)
    assert need.tolist() == [0]


# -- what is refused ---------------------------------------------------------------------------

GOOD = {"state": torch.zeros(3, 2, 5), "next_state": torch.ones(3, 2, 5), "action": torch.zeros(3)}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"state": None}, ValueError, "columns must have state, got next_state, action"),
        ({"next_state": None}, ValueError, "columns must have next_state, got state, action"),
        ({"action": None}, ValueError,
         "columns must be state, next_state, action, got state, next_state$"),
        ({"other": torch.zeros(3)}, ValueError, "columns must be .*, action, got .*, other$"),
        ({"state": torch.zeros(2, 2, 5)}, ValueError,
         "next_state must have 2 rows like state, got 3"),
        ({"state": torch.zeros(3, 5)}, ValueError,
         r"state must be \[n, 2, ...\], got \[3, 5\]"),
        ({"state": torch.zeros(3)}, ValueError, r"state must be \[n, 2, ...\], got \[3\]"),
        ({"next_state": torch.zeros(3, 3, 5)}, ValueError,
         r"next_state must be \[n, 2, ...\], got \[3, 3, 5\]"),
        ({"next_state": ["a", "b", "c"]}, ValueError,
         r"next_state must be \[n, 2, ...\], got a list"),
        ({"next_state": torch.zeros(3, 2, 4)}, ValueError,
         r"next_state must have frames \[5\] of torch.float32, got \[4\] of torch.float32"),
        ({"state": torch.zeros(3, 2, 4), "next_state": torch.zeros(3, 2, 4)}, ValueError,
         r"state must have frames \[5\] of torch.float32, got \[4\] of torch.float32"),
        ({"state": torch.zeros(3, 2, 5).int()}, ValueError,
         r"state must have frames \[5\] of torch.float32, got \[5\] of torch.int32"),
        ({"action": torch.zeros(3).int()}, TypeError, "action must be torch.float32, got torch.i"),
        ({"action": torch.zeros(3, 1)}, ValueError, r"action must have rows of shape \[\], got"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_change_nothing(change, error, message, device):
    replay = Replay(20, device=device, frames=BOTH, stack=2, priority="step")
    replay.append(**GOOD)
    before = snapshot(replay)
    rows = {name: x for name, x in {**GOOD, **change}.items() if x is not None}
    with pytest.raises(error, match=f"Replay.append: {message}"):
        replay.append(**rows)
    assert snapshot(replay) == before


def test_columns_of_a_first_append_that_differ_decide_on_nothing():
    replay = Replay(20, frames=BOTH)
    with pytest.raises(ValueError, match=r"next_state must have frames \[5\] of .*, got \[4\] of"):
        replay.append(state=torch.zeros(3, 5), next_state=torch.zeros(3, 4))
    assert len(replay) == 0 and replay.nbytes() == 0
    replay.append(state=torch.zeros(3, 4), next_state=torch.zeros(3, 4))


@pytest.mark.parametrize("appended", [0, 3, 60])
def test_too_many_new_frames_at_once_change_nothing(appended, device):
    replay = Replay(20, device=device, frames=BOTH, stack=2, priority="step")
    assert replay._frames.capacity == 24
    for first in range(0, appended, 3):
        rows = torch.arange(first, first + 6.0).view(3, 2, 1)
        replay.append(state=rows, next_state=rows + 1)
    before = snapshot(replay)
    new = torch.arange(100.0, 128).view(2, 7, 2, 1)
    message = "Replay.append: state must bring at most 24 new frames at once, got 28"
    with pytest.raises(ValueError, match=message):
        replay.append(state=new[0], next_state=new[1])
    assert snapshot(replay) == before
    replay.append(state=new[0, :6], next_state=new[1, :6])
    assert len(replay) == 6


def test_an_append_of_the_replay_s_own_memory_changes_nothing():
    replay = Replay(20, frames=BOTH)
    big = torch.zeros(2, 100)  # a column by itself, of which a part needs no copy
    replay.append(state=torch.zeros(2, 4), next_state=torch.ones(2, 4), big=big)
    before = snapshot(replay)
    with pytest.raises(RuntimeError, match="must not share memory"):
        replay.append(
            state=torch.ones(2, 4), next_state=torch.zeros(2, 4), big=replay.columns["big"]
        )
    assert snapshot(replay) == before
    replay.append(state=torch.ones(2, 4), next_state=torch.full((2, 4), 2.0), big=big)
    assert replay._frames._stored == 6

"""A buffer that goes on from its state is the same one, also by way of a file."""
# ruff: noqa: NPY002 (the buffers draw by numpy's global generator)

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buffers.steps import assert_steps, step, steps
from machin_fast.buffers import (
    Buffer,
    PrioritizedBuffer,
    RNNBuffer,
    RNNPrioritizedBuffer,
    SHMBuffer,
    TransitionStorageBase,
    TransitionStorageBasic,
)
from machin_fast.transition import Transition, TransitionBase
from machin_fast.utils.state_file import load_state, save_state

SIZE = 17
BUFFERS: dict[str, Callable[..., Any]] = {
    "buffer": Buffer,
    "n steps": lambda *a, **k: Buffer(*a, n_step=3, discount=0.9, **k),
    "shared": SHMBuffer,
    "windows": lambda *a, **k: RNNBuffer(2, 1, *a, **k),
    "prioritized": PrioritizedBuffer,
    "prioritized n steps": lambda *a, **k: PrioritizedBuffer(*a, n_step=2, **k),
    "prioritized windows": lambda *a, **k: RNNPrioritizedBuffer(2, 1, *a, **k),
}
KINDS = pytest.mark.parametrize("kind", BUFFERS)


class Listed(TransitionStorageBase):
    """A user's own storage, with handles of its own."""

    def __init__(self) -> None:
        self.clear()

    def store_episode(self, episode: list[TransitionBase]) -> Sequence[Any]:
        handles = [("n", len(self.stored) + i) for i in range(len(episode))]
        self.stored.update(zip(handles, copy.deepcopy(episode), strict=True))
        return handles

    def clear(self) -> None:
        self.stored: dict[Any, TransitionBase] = {}

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, key: Any) -> TransitionBase:
        return self.stored[key]


class Saved(Listed):
    """One that can be saved."""

    def state_dict(self) -> dict[str, Any]:
        return {"stored": [dict(each.items()) for each in self.stored.values()]}

    def load_state_dict(self, state: Any) -> None:
        transitions = [Transition(**each) for each in state["stored"]]
        self.stored = {("n", i): each for i, each in enumerate(transitions)}


def some_steps(i: int, content: str) -> list[dict[str, Any]]:
    """An episode whose transitions share columns, or in part, or none."""
    episode = [
        step(n, number=n, single=np.float32(n / 3), flag=np.bool_(n % 2), note={"n": [n, None]})
        for n in range(5 * i, 5 * i + i % 4 + 1)
    ]
    if content != "plain" and i % 2:
        wide = episode[-1]["state"]["position"].double()
        episode[-1]["state"]["position"] = wide
    if content == "names" and i % 2:
        episode[-1]["odd"] = torch.ones(1)
    return episode


def play(buffer: Any, begin: int, end: int, content: str = "plain") -> list[Any]:
    """The same calls at every start: stores, draws, new priorities; what they returned."""
    seen: list[Any] = []
    attributes = ["state", "action", "reward", "next_state", "terminal", "number", "note", "single"]
    for i in range(begin, end):
        random.seed(i)
        np.random.seed(i)
        episode = some_steps(i, content)
        if not isinstance(buffer, PrioritizedBuffer):
            buffer.store_episode(episode)
            seen.append(buffer.sample_batch(4, sample_attrs=attributes))
            continue
        priorities = [each["number"] % 7 for each in episode] if i % 3 else None
        buffer.store_episode(episode, priorities)
        seen.append(buffer.sample_batch(4, sample_attrs=attributes))
        if seen[-1][0]:
            buffer.update_priority(seen[-1][3] * 3, seen[-1][2])
    return seen


def assert_same(got: Any, expected: Any) -> None:
    """Equal bit for bit and type by type."""
    if isinstance(expected, TransitionBase):
        assert type(got) is type(expected)
        got, expected = vars(got), vars(expected)
    assert type(got) is type(expected)
    if isinstance(expected, Tensor):
        assert (got.dtype, got.device) == (expected.dtype, expected.device)
        assert torch.equal(got, expected)
    elif isinstance(expected, np.ndarray):
        assert got.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key, value in expected.items():
            assert_same(got[key], value)
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert got == expected


def by_state(buffer: Any, other: Any, path: Path) -> None:
    other.load_state_dict(buffer.state_dict())


def by_file(buffer: Any, other: Any, path: Path) -> None:
    save_state(path, buffer.state_dict(), kind="buffer")
    other.load_state_dict(load_state(path, kind="buffer"))


WAYS = pytest.mark.parametrize("take_over", [by_state, by_file])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.buffer"


# -- going on ----------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("used", [0, 9], ids="into one of {} episodes".format)
@pytest.mark.parametrize("played", [0, 3, 20])
@pytest.mark.parametrize("content", ["plain", "loose"])
@KINDS
def test_another_buffer_goes_on_as_if_it_was_the_one(
    kind, content, played, used, take_over, path, device
):
    one, other = (BUFFERS[kind](SIZE, device) for _ in range(2))
    play(one, 0, played, content)
    play(other, 50, 50 + used, "plain" if content == "loose" else "loose")
    take_over(one, other, path)
    assert_same(other.state_dict(), one.state_dict())
    assert other.transition_episode_number == one.transition_episode_number
    expected = play(one, played, played + 12, content)
    assert_same(play(other, played, played + 12, content), expected)
    assert_same(other.state_dict(), one.state_dict())
    if isinstance(one, PrioritizedBuffer):
        assert torch.equal(other.wt_tree._tree.nodes, one.wt_tree._tree.nodes)


@pytest.mark.parametrize("kind", ["buffer", "windows", "prioritized", "prioritized windows"])
def test_transitions_that_share_no_columns_go_along_in_memory(kind, path):
    one, other = (BUFFERS[kind](SIZE) for _ in range(2))
    play(one, 0, 9, "names")
    state = one.state_dict()
    assert state["storage"]["layout"] is None
    (stored,) = state["storage"]["columns"].values()
    assert {type(each) for each in stored} == {Transition}
    other.load_state_dict(state)
    expected = play(one, 9, 20, "names")
    assert_same(play(other, 9, 20, "names"), expected)
    with pytest.raises(TypeError, match=r"state\['storage'\]\['columns'\]\['transition'\]\[0\]"):
        save_state(path, state, kind="buffer")
    assert not path.exists()


class Expert(TransitionBase):
    def __init__(self, state: dict[str, Tensor], reward: float, source: str) -> None:
        super().__init__(["state"], ["reward"], ["source"], [state], [reward], [source])


def test_so_do_transitions_of_another_class():
    one, other = Buffer(5), Buffer(5)
    for i in range(7):
        expert = Expert({"s": torch.full((1, 2), i)}, i / 2, f"human {i}")
        one.store_episode([expert], required_attrs=("state",))
    state = one.state_dict()
    kept = copy.deepcopy(state)
    other.load_state_dict(state)
    assert_same(other.storage.data, one.storage.data)
    assert type(other.storage[0]) is Expert and other.storage[0].source == "human 5"
    assert isinstance(other.storage._table.columns["state/s"], Tensor)
    other.store_episode([expert] * 5, required_attrs=("state",))
    assert_same(state, kept)


@KINDS
def test_one_that_was_cleared_goes_on(kind, path):
    one, other = (BUFFERS[kind](SIZE) for _ in range(2))
    play(one, 0, 9)
    one.clear()
    play(other, 0, 5)
    by_file(one, other, path)
    assert (other.size(), other.episode_counter, other.storage.data) == (0, 0, [])
    assert_same(play(other, 9, 20, "loose"), play(one, 9, 20, "loose"))


@pytest.mark.parametrize("n", [1, 3, 8, 10])
def test_what_comes_next_takes_the_place_of_the_oldest(n, path):
    one, other = Buffer(8), Buffer(8)
    for number in range(n):
        one.store_episode(steps([number]))
    by_file(one, other, path)
    other.store_episode(steps(range(50, 55)))
    expected = dict(enumerate(range(n))) if n <= 8 else {i % 8: i for i in range(n)}
    expected |= {(n + i) % 8: 50 + i for i in range(5)}
    assert_steps(other.storage.data, [expected[i] for i in range(len(expected))])
    assert other.episode_counter == n + 1


def test_indexes_drawn_before_still_mean_their_rows():
    one, other = PrioritizedBuffer(6), PrioritizedBuffer(6)
    one.store_episode(steps(range(6)))
    index = one.sample_batch(6)[2]
    other.load_state_dict(one.state_dict())
    for each in (one, other):
        each.store_episode(steps(range(6, 8)))
        each.update_priority(np.arange(6), index)
    assert other.stale_updates == one.stale_updates == 6
    assert_same(other.state_dict(), one.state_dict())


def test_parameters_that_were_changed_go_along(path):
    one = PrioritizedBuffer(SIZE, epsilon=0.5, alpha=0.3, beta=0.1, beta_increment_per_sampling=0.2)
    play(one, 0, 3)
    one.alpha = 0.4
    other = PrioritizedBuffer(SIZE)
    by_file(one, other, path)
    assert (other.epsilon, other.alpha, other.beta) == (0.5, 0.4, 0.1)
    assert other.curr_beta == one.curr_beta == pytest.approx(0.7)
    assert_same(play(other, 3, 9), play(one, 3, 9))


@pytest.mark.parametrize(
    "value",
    [True, 7, 0.1, np.bool_(True), np.int8(3), np.longlong(3), np.float16(0.1), np.float64(0.1)],
    ids=lambda value: type(value).__name__,
)
def test_kinds_of_numbers_stay(value, path):
    one, other = Buffer(4), Buffer(4)
    one.store_episode([step(0, value=value)])
    by_file(one, other, path)
    assert other.storage._stored.kinds == one.storage._stored.kinds
    assert_same(other.storage[0], one.storage[0])
    other.store_episode([step(1, value=value)])
    assert isinstance(other.storage._table.columns["value"], Tensor)  # it still fits


@pytest.mark.parametrize("origin", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_file_is_read_on_any_device(origin, device, path):
    if origin == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    one, other = PrioritizedBuffer(SIZE, origin), PrioritizedBuffer(SIZE, device)
    play(one, 0, 9, "loose")
    save_state(path, one.state_dict(), kind="buffer")
    other.load_state_dict(load_state(path, kind="buffer", device="cpu"))
    assert other.storage[3].state["position"].device.type == device.type
    assert_same(play(other, 9, 20, "loose"), play(one, 9, 20, "loose"))


# -- a state is a copy -------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["plain", "loose"])
@KINDS
def test_a_state_is_a_copy(kind, content):
    one, other = (BUFFERS[kind](SIZE) for _ in range(2))
    play(one, 0, 9, content)
    state = one.state_dict()
    kept = copy.deepcopy(state)
    other.load_state_dict(state)
    for each in (one, other):
        for transition in each.sample_batch(20, concatenate=False)[1][0]["position"]:
            for tensor in transition if isinstance(transition, list) else [transition]:
                tensor.zero_()
        play(each, 20, 30, content)
        each.clear()
    assert_same(state, kept)


def test_a_state_holds_no_empty_rows():
    buffer = PrioritizedBuffer(10**5)
    buffer.store_episode(steps(range(3)))
    state = buffer.state_dict()
    tensors = [*state["storage"]["columns"].values(), state["leaves"], state["episodes"]["starts"]]
    assert sum(each.untyped_storage().nbytes() for each in tensors) < 1000
    other = PrioritizedBuffer(10**5)
    other.load_state_dict(state)
    assert other.storage._table.capacity < 1000


def test_objects_of_custom_attributes_are_the_stored_ones_and_tensors_copies():
    buffer = Buffer(4)
    note = [1]
    buffer.store_episode([step(0, note=note, tensor=torch.ones(2))])
    stored = buffer.storage.read(np.array([0]))
    columns = buffer.state_dict()["storage"]["columns"]
    assert columns["note"][0] is stored.values("note")[0] is not note
    assert columns["tensor"][0] is not stored.values("tensor")[0]
    other = Buffer(4)
    state = buffer.state_dict()
    other.load_state_dict(state)
    found = other.storage.read(np.array([0])).values("tensor")[0]
    assert found is not state["storage"]["columns"]["tensor"][0]


# -- what is refused ---------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (Buffer(9), Buffer(8), "Buffer.load_state_dict: buffer_size must be 8, got 9"),
        (Buffer(9), SHMBuffer(9), "SHMBuffer.load_state_dict: class must be 'SHMBuffer', got 'Buf"),
        (PrioritizedBuffer(9), Buffer(9), "class must be 'Buffer', got 'PrioritizedBuffer'"),
        (Buffer(9), PrioritizedBuffer(9), "class must be 'PrioritizedBuffer', got 'Buffer'"),
        (Buffer(9, n_step=2), Buffer(9, n_step=3), "n_step must be 3, got 2"),
        (Buffer(9), Buffer(9, n_step=3), "n_step must be 3, got 1"),
        (Buffer(9, n_step=3), Buffer(9, n_step=3, discount=0.9), "discount must be 0.9, got 0.99"),
        (RNNBuffer(2, 1, 9), RNNBuffer(3, 1, 9), "sample_length must be 3, got 2"),
        (RNNBuffer(2, 1, 9), RNNBuffer(2, 0, 9), "sample_dimension must be 0, got 1"),
        (RNNPrioritizedBuffer(2, 1, 9), RNNPrioritizedBuffer(3, 1, 9), "sample_length must be 3"),
        (Buffer(9, storage=Saved()), Buffer(9), "storage must be 'TransitionStorageBasic', got 'S"),
    ],
)
def test_a_state_of_another_buffer_is_refused_and_nothing_is_changed(
    one, other, message, take_over, path
):
    one.store_episode(steps(range(4)))
    other.clear()
    other.store_episode(steps(range(10, 15)))
    before = other.state_dict()
    with pytest.raises(ValueError, match=message):
        take_over(one, other, path)
    assert_same(other.state_dict(), before)


def test_what_is_no_state_is_refused():
    buffer = Buffer(4)
    buffer.store_episode(steps(range(3)))
    state = buffer.state_dict()
    with pytest.raises(ValueError, match="class must be 'Buffer', got 'none'"):
        buffer.load_state_dict({})
    with pytest.raises(KeyError):
        buffer.load_state_dict({"settings": state["settings"], "storage": state["storage"]})
    storage = TransitionStorageBasic(5)
    with pytest.raises(ValueError, match="load_state_dict: max_size must be 5, got 4"):
        storage.load_state_dict(state["storage"])
    assert_same(buffer.state_dict(), state)


def test_a_discount_of_one_step_does_not_matter():
    Buffer(4, discount=0.5).load_state_dict(Buffer(4).state_dict())


# -- a user's own storage ----------------------------------------------------------------------


@WAYS
def test_a_storage_that_can_be_saved_is(take_over, path):
    one, other = Buffer(storage=Saved()), Buffer(storage=Saved())
    play(one, 0, 5)
    play(other, 50, 60)
    take_over(one, other, path)
    assert other.transition_episode_number == one.transition_episode_number
    assert other.episode_transition_handles == one.episode_transition_handles
    assert_same(play(other, 5, 12), play(one, 5, 12))


def test_one_that_cannot_is_named_and_nothing_is_changed():
    buffer = Buffer(storage=Listed())
    buffer.store_episode(steps(range(3)))
    message = r"^Listed.state_dict: a storage must have state_dict and load_state_dict for that"
    with pytest.raises(TypeError, match=message):
        buffer.state_dict()
    state = Buffer(storage=Saved()).state_dict()
    state["settings"]["storage"] = "Listed"
    with pytest.raises(TypeError, match=message.replace("state_dict", "load_state_dict", 1)):
        buffer.load_state_dict(state)
    assert buffer.size() == len(buffer.transition_episode_number) == 3

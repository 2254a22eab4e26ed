"""``Buffer`` against Machin's contract; numbers are those of Python's ``random``."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buffers.steps import assert_batch, assert_steps, columns, step, steps
from machin_fast.buffers import (
    Buffer,
    PrioritizedBuffer,
    RNNBuffer,
    RNNPrioritizedBuffer,
    TransitionStorageBase,
    TransitionStorageBasic,
)
from machin_fast.transition import Transition


class DictStorage(TransitionStorageBase):
    """A storage of somebody else: handles are words."""

    def __init__(self, size: int) -> None:
        self.size, self.count, self.kept = size, 0, {}

    def store_episode(self, episode):
        handles = []
        for transition in episode:
            handles.append(f"place {self.count % self.size}")
            self.kept[handles[-1]] = copy.deepcopy(transition)
            self.count += 1
        return handles

    def clear(self):
        self.kept.clear()

    def __len__(self):
        return len(self.kept)

    def __getitem__(self, key):
        return self.kept[key]


def filled(*lengths: int, size: int = 100, **arguments: Any) -> Buffer:
    """Episodes of these lengths, all steps numbered from 0 on."""
    buffer = Buffer(size, **arguments)
    first = 0
    for length in lengths:
        buffer.store_episode(steps(range(first, first + length)))
        first += length
    return buffer


def numbers(buffer: Buffer, *arguments: Any, **named: Any) -> list[int]:
    """The steps of a batch."""
    named.setdefault("sample_attrs", ["number"])
    batch = buffer.sample_batch(*arguments, **named)[1]
    return [] if batch is None else batch[0]


STORAGES = [
    pytest.param(lambda size: {}, id="built in"),
    pytest.param(lambda size: {"storage": DictStorage(size)}, id="own"),
    pytest.param(lambda size: {"storage": TransitionStorageBasic(size)}, id="given"),
]


# -- what is stored ----------------------------------------------------------------------------


def test_episodes_are_numbered_and_leave_as_a_whole():
    buffer = filled(6, 3, size=10)
    assert buffer.episode_counter == 2
    assert buffer.episode_transition_handles == {0: [0, 1, 2, 3, 4, 5], 1: [6, 7, 8]}
    buffer.store_episode(steps(range(9, 12)))
    assert buffer.size() == 10
    assert buffer.episode_counter == 3
    assert dict(buffer.transition_episode_number) == {6: 1, 7: 1, 8: 1, 9: 2, 0: 2, 1: 2}
    assert list(buffer.transition_episode_number) == [6, 7, 8, 9, 0, 1]
    assert buffer.episode_transition_handles == {1: [6, 7, 8], 2: [9, 0, 1]}
    assert numbers(buffer, 0, sample_method="all") == [6, 7, 8, 9, 10, 11]
    for gone in (2, 5, 10, -1, "x", None):
        with pytest.raises(KeyError):
            buffer.transition_episode_number[gone]
    for gone in (0, 3, -1, "x"):
        with pytest.raises(KeyError):
            buffer.episode_transition_handles[gone]
    assert repr(buffer.episode_transition_handles) == "{1: [6, 7, 8], 2: [9, 0, 1]}"
    assert repr(buffer.transition_episode_number).startswith("{6: 1, 7: 1")


@pytest.mark.parametrize("storage", STORAGES)
def test_the_books_are_the_same_with_any_storage(storage):
    buffer, own = filled(6, 3, 1, 4, 4, 1, size=10), Buffer(storage=DictStorage(10))
    other = Buffer(10, **storage(10))
    first = 0
    for length in (6, 3, 1, 4, 4, 1):
        for each in (own, other):
            each.store_episode(steps(range(first, first + length)))
        first += length
    place = "place {}".format
    assert [*map(place, buffer.transition_episode_number)] == [*own.transition_episode_number]
    for each in (own, other):
        assert each.episode_counter == buffer.episode_counter
        assert list(each.transition_episode_number.values()) == list(
            buffer.transition_episode_number.values()
        )
        for method in ("all", "random", "random_unique"):
            drawn = []
            for any_buffer in (buffer, each):
                random.seed(3)
                drawn.append(numbers(any_buffer, 7, sample_method=method))
            assert drawn[0] == drawn[1]


@pytest.mark.parametrize("storage", STORAGES)
def test_clear_forgets_everything(storage):
    buffer = Buffer(10, **storage(10))
    for _ in range(3):
        buffer.store_episode(steps(range(4)))
    buffer.clear()
    assert buffer.size() == len(buffer.transition_episode_number) == buffer.episode_counter == 0
    assert buffer.episode_transition_handles == {}
    assert buffer.sample_batch(3) == (0, None)
    buffer.store_episode(steps([7]))
    assert numbers(buffer, 5) == [7]


def test_the_caller_s_episode_is_left_alone():
    episode = steps(range(3))
    Buffer(10).store_episode(episode)
    assert all(type(each) is dict for each in episode)


def test_transitions_and_dicts_may_be_mixed():
    buffer = Buffer(10)
    buffer.store_episode([step(0), Transition(**step(1)), step(2)])
    assert_steps(buffer.sample_batch(0, sample_method=lambda b, n: (1, []))[1] or [], [])
    assert_steps([buffer.storage[i] for i in range(3)], [0, 1, 2])


def test_older_names_store_one_step():
    buffer = Buffer(10)
    buffer.append(step(0, number=0))
    buffer.append(Transition(**step(1, number=1)), ())
    buffer.store_transition(step(2, number=2))
    assert buffer.episode_transition_handles == {0: [0], 1: [1], 2: [2]}
    assert numbers(buffer, 0, sample_method="all") == [0, 1, 2]


@pytest.mark.parametrize(
    ("episode", "required", "message"),
    [
        ([], (), "Episode must be non-empty"),
        ([step(0), [1]], (), "Transition object must be a dict .*got list at position 1"),
        ([step(0), {"state": {}}], (), "Transition object missing attributes: action, next_state, "
         "reward, terminal at position 1"),
        ([step(0)], ("state", "speed"), "Transition object missing attributes: speed at"),
        ([Transition(**step(0))], ("speed",), "Transition object missing attributes: speed at"),
        ([step(0), step(1) | {"reward": "x"}], (), "requires scalar or tensor"),
        (steps(range(6)), (), "Failed to store episode.*at most 5.*got 6"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [Buffer, PrioritizedBuffer])
def test_a_bad_episode_changes_nothing(make, episode, required, message):
    buffer = make(5)
    buffer.store_episode(steps(range(3)))
    with pytest.raises(ValueError, match=message):
        buffer.store_episode(episode, required_attrs=required)
    assert (buffer.size(), buffer.episode_counter) == (3, 1)
    assert_steps(buffer.storage.data, range(3))


# -- drawing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[9], [1] * 9, [4, 3, 4, 1, 2, 6]])
def test_draws_are_those_of_python_s_random_over_the_handles(lengths):
    buffer = filled(*lengths, size=9)
    handles = list(buffer.transition_episode_number)
    number = {handle: buffer.storage[handle].number for handle in handles}
    for n in (1, 4, 9, 30):
        random.seed(5)
        expected = random.sample(handles, min(n, len(handles)))
        random.seed(5)
        assert numbers(buffer, n) == [number[handle] for handle in expected]
        random.seed(5)
        expected = random.choices(handles, k=min(n, len(handles)))
        random.seed(5)
        assert numbers(buffer, n, sample_method="random") == [number[h] for h in expected]


def test_a_batch_is_joined(device):
    buffer = filled(5, 5, buffer_device=device)
    for method in ("random_unique", "random", "all"):
        n, batch = buffer.sample_batch(4, device=device, sample_method=method)
        drawn = batch[5]
        assert n == len(drawn) == (10 if method == "all" else 4)
        assert_batch(batch, drawn)
        assert batch[0]["position"].shape == (n, 2) and batch[3].shape == batch[4].shape == (n, 1)
        assert batch[0]["goal"].shape == (n,)
        assert all(x.device.type == device.type for x in (*batch[0].values(), *batch[3:5]))
    assert buffer.sample_batch(3, device="cpu")[1][0]["goal"].device.type == "cpu"
    assert buffer.sample_batch(3, device=None)[1][0]["goal"].device.type == device.type


def test_a_batch_can_be_lists():
    buffer = filled(6)
    n, batch = buffer.sample_batch(3, concatenate=False)
    drawn = batch[5]
    assert n == 3
    assert [x.tolist() for x in batch[0]["position"]] == [[[i, i + 0.5]] for i in drawn]
    assert batch[3] == [i / 10 for i in drawn] and all(type(x) is float for x in batch[3])
    assert batch[4] == [i % 3 == 0 for i in drawn] and all(type(x) is bool for x in batch[4])


@pytest.mark.parametrize("size", [0, -3])
@pytest.mark.parametrize("method", ["random_unique", "random"])
def test_nothing_is_drawn_of_nothing(size, method):
    assert filled(3).sample_batch(size, sample_method=method) == (0, None)
    for each in (method, "all"):
        assert Buffer(5).sample_batch(3, sample_method=each) == (0, None)


def test_attributes_come_as_asked():
    buffer = Buffer(10)
    buffer.store_episode([step(i, one=i, two=str(i), three=i / 2) for i in range(3)])

    def sample(*names: str, **named: Any) -> tuple[Any, ...]:
        return buffer.sample_batch(0, sample_method="all", sample_attrs=names, **named)[1]

    every = buffer.sample_batch(0, sample_method="all")[1]
    assert len(every) == 8
    assert every[5:] == ([0, 1, 2], [0.0, 0.5, 1.0], ["0", "1", "2"])  # by name: one, three, two
    reward, state = sample("reward", "nothing", "state")
    assert reward.shape == (3, 1) and state["goal"].tolist() == [0, 1, 2]
    assert sample("nothing") == ()
    assert sample("two", "*") == (["0", "1", "2"], {"one": [0, 1, 2], "three": [0.0, 0.5, 1.0]})
    rest, one = sample("*", "one")
    assert one == [0, 1, 2] and set(rest) == {"two", "three"}


@pytest.mark.parametrize("name", ["additional_concat_custom_attrs", "additional_concat_attrs"])
def test_custom_attributes_are_joined_if_asked_for(name):
    buffer = Buffer(10)
    buffer.store_episode(
        [step(i, one=i, half=i / 2, flag=i == 1, row=torch.full((1, 2), i)) for i in range(3)]
    )
    attrs = ["one", "half", "*"]
    named = {name: ["one", "half", "row"]}
    one, half, rest = buffer.sample_batch(0, sample_method="all", sample_attrs=attrs, **named)[1]
    assert torch.equal(one, torch.tensor([[0], [1], [2]]))
    assert torch.equal(half, torch.tensor([[0.0], [0.5], [1.0]]))
    assert rest["flag"] == [False, True, False]
    assert rest["row"].tolist() == [[0, 0], [1, 1], [2, 2]]
    lists = buffer.sample_batch(2, concatenate=False, sample_attrs=["one"], **named)[1]
    assert isinstance(lists[0], list)


@pytest.mark.parametrize("value", ["text", None, torch.tensor(1.0)])
def test_what_cannot_be_joined_says_so(value):
    buffer = Buffer(10)
    buffer.store_episode([step(i, odd=value) for i in range(3)])
    with pytest.raises(ValueError, match="Batch not concatenable"):
        buffer.sample_batch(2, additional_concat_custom_attrs=["odd"])


def test_numbers_follow_torch_tensor():
    buffer = Buffer(10)
    for reward in (1, 2, 3):
        buffer.append(step(0) | {"reward": reward})
    assert buffer.sample_batch(3)[1][3].dtype == torch.int64
    buffer.append(step(0) | {"reward": 0.5})
    assert sorted(buffer.sample_batch(4)[1][3].tolist()) == [[0.5], [1.0], [2.0], [3.0]]
    for value in (np.float32(1), np.float64(1), np.int8(1), 1.0):
        buffer = Buffer(3)
        buffer.append(step(0) | {"reward": value})
        assert buffer.sample_batch(1)[1][3].dtype == torch.tensor([value]).dtype


def test_ragged_states_are_padded_by_a_hook():
    class Padded(Buffer):
        def pre_process_attribute(self, attribute, sub_key, values):
            if attribute != "state":
                return values
            width = max(value.shape[1] for value in values)
            return [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in values]

    episode = [step(i) | {"state": {"words": torch.ones(1, i)}} for i in range(1, 4)]
    plain, padded = Buffer(5), Padded(5)
    for buffer in (plain, padded):
        buffer.store_episode(episode)
    with pytest.raises(ValueError, match=r"Batch not concatenable.*pre_process_attribute to pad"):
        plain.sample_batch(3)
    state = padded.sample_batch(0, sample_method="all")[1][0]
    assert state["words"].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


HOOKS = ["pre_process_attribute", "make_tensor_from_batch", "post_process_attribute",
         "post_process_batch"]  # fmt: skip


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("where", ["class", "object"])
@pytest.mark.parametrize("storage", STORAGES)
def test_hooks_are_called_and_see_what_transitions_hold(name, where, storage):
    seen = []

    def hook(self, *arguments):
        seen.append(arguments)
        return getattr(Buffer, name)(self, *arguments)

    made = type("Hooked", (Buffer,), {name: hook} if where == "class" else {})
    buffer = made(10, **storage(10))
    if where == "object":
        setattr(buffer, name, hook.__get__(buffer))
    buffer.store_episode(steps(range(5)))
    random.seed(1)
    n, batch = buffer.sample_batch(3, additional_concat_custom_attrs=["number"])
    random.seed(1)
    drawn = numbers(buffer, 3)
    assert n == 3
    assert_batch(batch, drawn)
    if name == "post_process_batch":
        transitions, device, concatenate, attrs, concat = seen[0]
        assert_steps(transitions, drawn)
        assert (device, concatenate, attrs, concat) == ("cpu", True, None, ["number"])
        return
    if name == "make_tensor_from_batch":
        seen = [("", "", values) for values, device, concatenate in seen]
    else:
        assert [x[:2] for x in seen[:8]] == [
            ("state", "position"), ("state", "goal"), ("action", "action"),
            ("next_state", "position"), ("next_state", "goal"), ("reward", None),
            ("terminal", None), ("number", None),
        ]  # fmt: skip
    values = seen[5][2]
    if isinstance(values, Tensor):
        assert values.shape == (3, 1)
    else:
        assert values == [i / 10 for i in drawn]


@pytest.mark.parametrize("storage", STORAGES)
def test_sample_methods_of_one_s_own(storage):
    class Newest(Buffer):
        def sample_method_newest(self, batch_size):
            handles = list(self.transition_episode_number)[-batch_size:]
            return len(handles), [self.storage[handle] for handle in handles]

        def sample_method_random(self, batch_size):
            n, batch = super().sample_method_random(batch_size)
            return n, batch[:1] * n

    buffer = Newest(10, **storage(10))
    buffer.store_episode(steps(range(5)))
    assert numbers(buffer, 2, sample_method="newest") == [3, 4]
    assert len(set(numbers(buffer, 5, sample_method="random"))) == 1
    first = lambda self, n: self.sample_method_all(n)[1][:n]  # noqa: E731
    n, batch = buffer.sample_batch(2, sample_method=lambda b, n: (n, first(b, n)))
    assert n == 2
    assert_batch(batch, [0, 1])
    n, batch = buffer.sample_batch(2, sample_method=Buffer.sample_method_all)
    assert n == 5
    with pytest.raises(
        RuntimeError,
        match=r"Cannot find specified sample method.*all, newest, random, random_unique, got best",
    ):
        buffer.sample_batch(2, sample_method="best")


def test_sampled_memory_is_not_the_buffer_s():
    buffer = filled(4)
    for concatenate in (True, False):
        state = buffer.sample_batch(0, concatenate, sample_method="all")[1][0]["position"]
        for tensor in [state] if concatenate else state:
            tensor.zero_()
    assert_batch(buffer.sample_batch(0, sample_method="all")[1], range(4))


# -- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGES)
def test_columns_of_transitions_are_what_they_would_be_one_by_one(storage, device):
    arguments = storage(12) or {"buffer_device": device}
    buffer, one_by_one = Buffer(12, **arguments), Buffer(12)
    for first in (0, 5, 10):
        buffer.store_transitions(columns(range(first, first + 5)))
        for each in range(first, first + 5):
            one_by_one.append(step(each))
    assert list(buffer.transition_episode_number.values()) == list(
        one_by_one.transition_episode_number.values()
    )
    batch = buffer.sample_batch(0, device=None, sample_method="all")[1]
    assert_batch(batch, range(3, 15))
    buffer.append(step(15) | {"reward": 1.5})
    everything = buffer._rows(list(buffer.transition_episode_number)).transitions()
    assert_steps(everything, range(4, 16))


def test_a_rollout_is_cut_into_episodes_of_each_environment():
    steps_, envs = 4, 3
    rollout = columns(range(12), steps_, envs)  # step t of env b is 3 t + b
    rollout["terminal"] = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], bool)
    rollout["truncated"] = torch.tensor([[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]).bool()
    rollout["value"] = torch.arange(12.0).view(4, 3)
    buffer = Buffer(20)
    buffer.store_rollout(rollout)
    values = buffer.sample_batch(0, sample_method="all", sample_attrs=["value"])[1][0]
    assert values == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    lengths = [len(handles) for handles in buffer.episode_transition_handles.values()]
    assert lengths == [2, 2, 1, 3, 4]
    batch = buffer.sample_batch(0, sample_method="all")[1]
    assert torch.equal(batch[0]["goal"], torch.tensor(values).long())


def test_custom_columns_are_numbers_tensors_or_objects():
    given = columns(range(3)) | {
        "note": ["a", None, {}], "count": [1, 2, 3], "logits": torch.eye(3), "half": np.ones(3) / 2,
    }  # fmt: skip
    buffer = Buffer(5)
    buffer.store_transitions(given)
    given["logits"].zero_()
    one = buffer.storage[0]
    assert one.custom_attr == ["count", "half", "logits", "note"]
    assert (one.note, one.count, one.half) == ("a", 1, 0.5)
    assert one.logits.tolist() == [[1, 0, 0]]
    half, logits = buffer.sample_batch(
        0, sample_method="all", sample_attrs=["half", "logits"],
        additional_concat_custom_attrs=["logits"],
    )[1]  # fmt: skip
    assert half == [0.5] * 3 and torch.equal(logits, torch.eye(3))


def test_sub_columns_may_be_tensors():
    given = columns(range(3)) | {
        "reward": torch.ones(3, 2), "terminal": torch.tensor([[True], [False], [False]]),
    }  # fmt: skip
    buffer = Buffer(5)
    buffer.store_transitions(given)
    assert buffer.storage[0].reward.tolist() == [[1, 1]]
    batch = buffer.sample_batch(0, sample_method="all")[1]
    assert batch[3].shape == (3, 2) and batch[4].tolist() == [[True], [False], [False]]


BAD_COLUMNS = [
    ({"reward": None}, TypeError, "reward must be a tensor, an array or a list, got NoneType"),
    ({"reward": torch.zeros(2)}, ValueError, "reward must have 3 rows like .*, got 2"),
    ({"reward": ["x"] * 3}, TypeError, "reward must be a tensor or an array, got a list"),
    ({"reward": torch.tensor(1.0)}, ValueError, "reward must be .*got a single value"),
    ({"state": torch.zeros(3, 2)}, TypeError, "state must be a mapping of columns, got Tensor"),
    ({"note": {"a": [1] * 3}}, TypeError, "note must be a column, got dict"),
    ({"state": {"a": {"b": [1] * 3}}}, ValueError, "mappings must hold columns alone, got state"),
    ({"terminal": torch.zeros(3)}, TypeError, "terminal must be bool, got torch.float32"),
    ({"terminal": ["no"] * 3}, TypeError, "terminal must be bool|tensor or an array"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_COLUMNS)
def test_bad_columns_change_nothing(change, error, message):
    buffer = filled(2, size=4)
    with pytest.raises(error, match=f"Buffer.store_transitions: .*({message})"):
        buffer.store_transitions(columns(range(3)) | change)
    missing = columns(range(3))
    del missing["action"], missing["reward"]
    with pytest.raises(ValueError, match="columns must have action, reward, got"):
        buffer.store_transitions(missing)
    with pytest.raises(ValueError, match="Failed to store"):
        buffer.store_transitions(columns(range(5)))
    assert (buffer.size(), buffer.episode_counter) == (2, 1)
    assert_steps(buffer.storage.data, range(2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reward": torch.zeros(3, 2)}, ValueError, r"reward must .* \[2, 3\], got \[3, 2\]"),
        ({"reward": torch.zeros(6)}, ValueError, r"reward must be \[steps, envs, ...\], got \[6\]"),
        ({"note": [["a"] * 3] * 2}, ValueError, "note must be .*got a list"),
        ({"truncated": torch.zeros(2, 3)}, TypeError, "truncated must be bool"),
        ({"terminal": torch.zeros(2, 3, 2).bool()}, ValueError, "terminal must be one value a"),
    ],
)
def test_bad_rollouts_change_nothing(change, error, message):
    buffer = filled(2, size=10)
    with pytest.raises(error, match=f"Buffer.store_rollout: .*{message}"):
        buffer.store_rollout(columns(range(6), 2, 3) | change)
    assert (buffer.size(), buffer.episode_counter) == (2, 1)


def test_no_columns_are_fine():
    empty = {key: value[:0] for key, value in columns(range(2)).items() if key in
             ("reward", "terminal")} | {key: {k: v[:0] for k, v in value.items()}
             for key, value in columns(range(2)).items() if isinstance(value, dict)}  # fmt: skip
    for buffer in (Buffer(4), PrioritizedBuffer(4)):
        buffer.store_transitions(empty)
        assert (buffer.size(), buffer.episode_counter) == (0, 0)


# -- arguments, copies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda **named: Buffer(10, **named),
        lambda **named: PrioritizedBuffer(10, **named),
        lambda **named: RNNBuffer(2, buffer_size=10, **named),
        lambda **named: RNNPrioritizedBuffer(2, buffer_size=10, **named),
    ],
)
def test_unknown_arguments_warn(make):
    with pytest.warns(UserWarning, match="__init__: arguments must be known, got buffer_sise"):
        buffer = make(buffer_sise=3)
    buffer.store_episode(steps(range(4)))
    with pytest.warns(UserWarning, match="sample_batch: arguments must be known, got sample_atrs"):
        buffer.sample_batch(2, sample_atrs=["state"])


def test_the_size_is_a_positive_int():
    with pytest.raises(ValueError, match="max_size must be at least 1, got 0"):
        Buffer(0)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_where_the_buffer_was(how):
    buffer = filled(3, 4, 3, size=8)
    again = how(buffer)
    for each in (buffer, again):
        each.store_episode(steps(range(10, 12)))
    assert again.episode_transition_handles == buffer.episode_transition_handles
    assert numbers(again, 0, sample_method="all") == numbers(buffer, 0, sample_method="all")
    again.clear()
    assert buffer.size() == 8

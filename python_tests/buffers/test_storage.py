"""The storage in columns, and what it does with transitions that share too little."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from buffers.steps import assert_steps, step, steps
from machin_fast.buffers import TransitionStorageBase, TransitionStorageBasic
from machin_fast.transition import Transition, TransitionBase


def transitions(*given: dict) -> list[TransitionBase]:
    return [Transition(**each) for each in given]


def stored(storage: TransitionStorageBasic, *given: dict) -> list[TransitionBase]:
    return [storage[handle] for handle in storage.store_episode(transitions(*given))]


def tensors(storage: TransitionStorageBasic) -> set[str]:
    return {name for name, column in storage._table.columns.items() if torch.is_tensor(column)}


def assert_same(got: TransitionBase, want: TransitionBase) -> None:
    """Equal values of equal types."""
    assert type(got) is type(want)
    assert got.keys() == want.keys()
    for (name, x), (_, y) in zip(got.items(), want.items(), strict=True):
        values = [list(v.values()) if name in got.major_attr else [v] for v in (x, y)]
        for a, b in zip(*values, strict=True):
            assert type(a) is type(b)
            assert torch.equal(a, b) if torch.is_tensor(a) else a == b, name


def test_handles_are_places_of_a_ring(device):
    storage = TransitionStorageBasic(7, device)
    assert isinstance(storage, TransitionStorageBase)
    assert (storage.max_size, storage.device, storage.index, len(storage)) == (7, device, 0, 0)
    assert storage.store_episode(transitions(*steps(range(5)))) == [0, 1, 2, 3, 4]
    assert storage.store_episode(transitions(*steps(range(5, 10)))) == [5, 6, 0, 1, 2]
    assert (storage.index, len(storage)) == (3, 7)
    assert_steps([storage[i] for i in range(7)], [7, 8, 9, 3, 4, 5, 6])
    assert_steps(storage.data, [7, 8, 9, 3, 4, 5, 6])
    assert storage[0].state["position"].device.type == device.type


def test_memory_grows_with_what_is_stored():
    storage = TransitionStorageBasic(10**9)
    for first in range(0, 3000, 500):
        storage.store_episode(transitions(*steps(range(first, first + 500))))
    assert storage._table.capacity < 10_000
    assert_steps([storage[i] for i in (0, 256, 2999)], [0, 256, 2999])


def test_numbers_and_tensors_are_columns():
    storage = TransitionStorageBasic(10)
    storage.store_episode(transitions(step(0, number=1, logits=np.float32(0.1), note="a")))
    assert tensors(storage) == {
        "state/position", "state/goal", "action/action", "next_state/position", "next_state/goal",
        "reward", "terminal", "number", "logits",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        0.1, 1e300, float("inf"), 7, -(2**62), True, np.float32(0.1), np.float64(0.1), np.int8(-3),
        np.uint8(200), np.bool_(True), torch.tensor([3]), torch.ones(1, 2, dtype=torch.bfloat16),
    ],
)  # fmt: skip
def test_sub_attributes_come_back_as_they_were(value):
    storage = TransitionStorageBasic(4)
    given = step(0, again=value) | {"reward": value}
    (got,) = stored(storage, given)
    assert_same(got, Transition(**given))
    assert "reward" in tensors(storage)


@pytest.mark.parametrize(
    "value", [2**70, 1 + 2j, np.longdouble(0.1), "text", None, {"a": [1, 2]}, torch.zeros(3)]
)
def test_anything_can_be_a_custom_attribute(value):
    storage = TransitionStorageBasic(4)
    (got,) = stored(storage, step(0, custom=value))
    assert_same(got, Transition(**step(0, custom=value)))
    assert "custom" not in tensors(storage)


def test_what_is_stored_and_what_is_read_are_copies():
    storage = TransitionStorageBasic(4)
    reward, note = torch.ones(1), [1]
    given = step(1, note=note) | {"reward": reward}
    storage.store_episode(transitions(given))
    before = storage[0]
    given["state"]["position"].zero_()
    reward.zero_()
    note.append(2)
    read = storage[0]
    read.state["position"].zero_()
    read.reward.zero_()
    read.note.append(3)
    assert_same(storage[0], before)
    assert before.note == [1] and before.state["position"].tolist() == [[1, 1.5]]
    storage.store_episode(transitions(*steps(range(4))))
    assert before.state["position"].tolist() == [[1, 1.5]]


def test_custom_tensors_with_a_graph_can_be_stored():
    value = torch.ones(1, requires_grad=True) * 2
    (got,) = stored(TransitionStorageBasic(4), step(0, custom=value))
    assert not got.custom.requires_grad and got.custom == 2


ODD = [
    pytest.param({"state": {"position": torch.zeros(1, 5), "goal": torch.zeros(1)}}, id="shape"),
    pytest.param(
        {"state": {"position": torch.zeros(1, 2).double(), "goal": torch.zeros(1)}}, id="dtype"
    ),
    pytest.param({"reward": 3}, id="type"),
    pytest.param({"reward": torch.ones(1, 1)}, id="tensor"),
    pytest.param({"number": "three"}, id="custom"),
    pytest.param({"number": 2**80}, id="huge"),
    pytest.param({"terminal": torch.tensor([True])}, id="terminal"),
    pytest.param({"state": {"position": torch.zeros(1, 2)}}, id="keys"),
    pytest.param({"state": {"position": torch.eye(2)[None].to_sparse()}}, id="sparse"),
    pytest.param({"speed": 1.0}, id="names"),
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("together", [True, False])
def test_transitions_that_differ_are_kept_all_the_same(odd, together):
    given = [*steps(range(5)), step(5, number=5) | odd, *steps(range(6, 9))]
    storage = TransitionStorageBasic(6)
    if together:
        storage.store_episode(transitions(*given[:6]))
        storage.store_episode(transitions(*given[6:]))
    else:
        for each in given:
            storage.store_episode(transitions(each))
    for place, number in enumerate([6, 7, 8, 3, 4, 5]):
        if (
            "position" in odd.get("state", {})
            and odd["state"]["position"].is_sparse
            and number == 5
        ):
            assert storage[place].state["position"].is_sparse
        else:
            assert_same(storage[place], Transition(**given[number]))


def test_one_odd_attribute_costs_the_others_nothing():
    storage = TransitionStorageBasic(6)
    storage.store_episode(transitions(*steps(range(5))))
    columns = tensors(storage)
    for reward in (1, 0.5, torch.ones(1)):
        storage.store_episode(transitions(step(5, number=5) | {"reward": reward}))
        assert tensors(storage) == columns - {"reward"}
    table = storage._table
    storage.store_episode(transitions(step(5, number=5)))
    assert storage._table is table


def test_names_that_would_share_a_column_are_kept_apart():
    given = TransitionBase(
        ["a", "a/b"], [], [],
        [{"b/c": torch.tensor([1]), "d": torch.tensor([2])}, {"c": torch.tensor([3])}], [], [],
    )  # fmt: skip
    storage = TransitionStorageBasic(3)
    storage.store_episode([given, given])
    assert_same(storage[1], given)


def test_other_transitions_than_the_default_are_kept():
    class Expert(TransitionBase):
        def __init__(self, state, **more):
            vars(self).update(more)
            super().__init__(["state"], [], [], [state], [], [])

    one, two = torch.zeros(1, 2), torch.zeros(2, 2)
    for given in (Expert({"s": one}), Expert({"s": two}), Expert({"s": one}, source="human")):
        storage = TransitionStorageBasic(3)
        storage.store_episode([given])
        storage.store_episode([given, given])
        assert_same(storage[2], given)
        assert getattr(storage[2], "source", None) == vars(given).get("source")
    mixed = [Expert({"s": one}), Transition(**step(0))]
    storage.store_episode(mixed)
    assert_same(storage[1], mixed[1])


def test_keys_may_come_in_any_order():
    storage = TransitionStorageBasic(3)
    swapped = step(1)
    swapped["state"] = dict(reversed(swapped["state"].items()))
    storage.store_episode(transitions(step(0), swapped))
    assert_steps(storage.data, [0, 1])
    assert "state/goal" in tensors(storage)


def test_clear_forgets_all_and_lets_other_transitions_in():
    storage = TransitionStorageBasic(4)
    storage.store_episode(transitions(*(step(i, note=[i]) for i in range(3))))
    storage.clear()
    assert (len(storage), storage.index, storage.data) == (0, 0, [])
    assert not any(storage._table.lists["note"])
    table = storage._table
    assert storage.store_episode(transitions(*(step(i, note="n") for i in range(3, 6)))) == [
        0,
        1,
        2,
    ]
    assert storage._table is table
    storage.clear()
    storage.store_episode(transitions(step(0) | {"reward": 1}))
    assert "reward" in tensors(storage)
    assert storage[0].reward == 1


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("n", [0, 3, 9])
def test_a_copy_goes_on_where_the_storage_was(how, n, device):
    storage = TransitionStorageBasic(6, device)
    for i in range(n):
        storage.store_episode(transitions(step(i, note=[i])))
    again = how(storage)
    for each in (again, storage):
        each.store_episode(transitions(step(n, note=[n])))
    assert (len(again), again.index) == (len(storage), storage.index)
    assert_steps(again.data, [int(x.note[0]) for x in storage.data])
    again.store_episode(transitions(step(50, note=[50])))
    assert 50 not in [x.note[0] for x in storage.data]


def test_a_pickle_holds_no_empty_rows():
    storage = TransitionStorageBasic(10**6)
    storage.store_episode(transitions(*steps(range(1000))))
    assert len(pickle.dumps(storage)) < 120_000
    storage.clear()
    storage.store_episode(transitions(step(0)))
    assert len(pickle.dumps(storage)) < 10_000


def test_an_episode_longer_than_the_ring_is_refused_and_changes_nothing():
    storage = TransitionStorageBasic(4)
    storage.store_episode(transitions(*steps(range(3))))
    with pytest.raises(ValueError, match=r"Failed to store episode.*at most 4.*got 5"):
        storage.store_episode(transitions(*steps(range(10, 15))))
    assert (len(storage), storage.index) == (3, 3)
    assert_steps(storage.data, [0, 1, 2])


@pytest.mark.parametrize("key", [-1, 2, 4, 10**12])
def test_only_what_is_there_can_be_read(key):
    storage = TransitionStorageBasic(4)
    storage.store_episode(transitions(*steps(range(2))))
    with pytest.raises(IndexError, match=r"key must be in \[0, 2\), got"):
        storage[key]


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [(0, ValueError, "at least 1, got 0"), (1e6, TypeError, "an int, got float"),
     (True, TypeError, "an int, got bool")],
)  # fmt: skip
def test_the_size_is_a_positive_int(size, error, message):
    with pytest.raises(error, match=f"max_size must be {message}"):
        TransitionStorageBasic(size)

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from machin_fast.transition import Scalar, Transition, TransitionBase


def base(batch: int = 1, **data):
    values = {
        "state": {"a": torch.zeros(batch, 2), "b": torch.ones(batch)},
        "reward": torch.zeros(batch, 1),
        "info": {"anything": object()},
        **data,
    }
    return TransitionBase(
        ["state"], ["reward"], ["info"], [values["state"]], [values["reward"]], [values["info"]]
    )


def transition(**data) -> Transition:
    return Transition(
        **{
            "state": {"s": torch.zeros(1, 2)},
            "action": {"a": torch.zeros(1, 1)},
            "next_state": {"s": torch.ones(1, 2)},
            "reward": 1.5,
            "terminal": False,
            **data,
        }
    )


def test_attributes_are_read_by_name_and_by_item():
    x = transition(zeal=1, age=[2])
    assert x.major_attr == ["state", "action", "next_state"]
    assert x.sub_attr == ["reward", "terminal"]
    assert x.custom_attr == ["age", "zeal"]
    assert x.keys() == ["state", "action", "next_state", "reward", "terminal", "age", "zeal"]
    assert len(x) == 7
    assert x["reward"] == x.reward == 1.5
    assert dict(x.items())["age"] is x.age
    assert [key for key, _ in x.items()] == x.keys()
    assert x.has_keys(["state", "zeal"]) and not x.has_keys(["state", "speed"])
    with pytest.raises(AttributeError, match="speed"):
        _ = x["speed"]
    assert "reward=1.5" in repr(x)
    assert Scalar == int | float | bool


def test_tensors_are_detached_and_not_copied():
    plain = torch.zeros(1, 2)
    x = transition(
        state={"s": torch.zeros(1, 2, requires_grad=True) * 1, "t": plain},
        reward=torch.ones(1, requires_grad=True),
    )
    assert x.state["t"] is plain
    assert not x.state["s"].requires_grad
    assert not x.reward.requires_grad


def test_the_caller_s_dicts_are_left_alone():
    state = {"s": torch.zeros(1, 2, requires_grad=True)}
    transition(state=state).to("cpu")
    assert state["s"].requires_grad


def test_values_can_be_set_and_are_checked():
    x = transition(note="a")
    x.reward = 5
    x["note"] = "b"
    x.state = {"s": torch.ones(1, 3)}
    assert (x.reward, x.note, x.state["s"].shape[1]) == (5, "b", 3)
    before = dict(x.items())
    for name, value in (
        ("reward", "much"),
        ("state", {"s": torch.zeros(2, 2)}),
        ("state", {"s": torch.tensor(1.0)}),
        ("terminal", 0),
    ):
        with pytest.raises((ValueError, TypeError)):
            x[name] = value
        with pytest.raises((ValueError, TypeError)):
            setattr(x, name, value)
    assert dict(x.items()) == before


@pytest.mark.parametrize("how", [setattr, lambda x, name, value: x.__setitem__(name, value)])
def test_new_attributes_cannot_be_set(how):
    with pytest.raises(RuntimeError, match=r"You cannot dynamically set .*got speed"):
        how(transition(), "speed", 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"state": {"a": torch.tensor(1.0)}}, r'state\["a"\] is an invalid tensor.*a single value'),
        ({"state": {"a": [1.0]}}, r'state\["a"\] is an invalid tensor.*got list'),
        ({"state": [1.0]}, r"state is an invalid tensor dict.*got list"),
        ({"state": {"a": torch.zeros(1), "b": torch.zeros(2)}}, r'"b"\] has invalid batch size 2'),
        ({"reward": torch.zeros(2)}, "reward has invalid batch size 2"),
        ({"reward": torch.tensor(1.0)}, "reward is an invalid tensor.*a single value"),
        ({"reward": "1"}, "reward has an invalid value, got str, requires scalar or tensor"),
        ({"reward": [1]}, "got list, requires scalar or tensor"),
        ({"batch": 3, "reward": 1.0}, "reward is a scalar, but batch size is 3"),
        ({"batch": 3, "reward": np.float32(1)}, "reward is a scalar, but batch size is 3"),
    ],
)
def test_what_does_not_fit_is_refused(data, message):
    with pytest.raises(ValueError, match=f"TransitionBase: .*{message}"):
        base(**data)


@pytest.mark.parametrize("batch", [1, 4])
def test_all_tensors_share_a_batch_size(batch):
    x = base(batch)
    assert x.state["b"].shape == (batch,)
    assert x.reward.shape == (batch, 1)


@pytest.mark.parametrize(
    "value", [1, 1.0, True, np.float32(2), np.int64(3), np.bool_(True), torch.ones(1, 1)]
)
def test_sub_attributes_are_numbers_or_tensors(value):
    assert base(reward=value).reward is value


def test_names_and_data_must_match():
    with pytest.raises(ValueError, match=r"data must be one for each of a, b, got 1"):
        TransitionBase(["a", "b"], [], [], [{}], [], [])
    with pytest.raises(ValueError, match="names must differ"):
        TransitionBase([], [], ["a", "a"], [], [], [1, 2])


def test_the_default_transition_is_of_one_step():
    two = {"s": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="Transition: batch size must be 1, got 2"):
        transition(
            state=two, action=two, next_state=two, reward=torch.zeros(2),
            terminal=torch.zeros(2, dtype=torch.bool),
        )  # fmt: skip
    with pytest.raises(ValueError, match="batch size is None"):
        transition(state={}, action={}, next_state={})


@pytest.mark.parametrize("terminal", [True, np.bool_(True), torch.tensor([True])])
def test_terminal_is_a_bool(terminal):
    assert bool(transition(terminal=terminal).terminal)
    assert not isinstance(transition(terminal=terminal).terminal, np.bool_)


@pytest.mark.parametrize("terminal", [1, None, torch.tensor([1]), "yes"])
def test_terminal_is_nothing_but_a_bool(terminal):
    with pytest.raises(TypeError, match="terminal must be a bool or bool tensor, got"):
        transition(terminal=terminal)


def test_to_moves_major_and_sub_tensors(device):
    x = transition(reward=torch.ones(1), note=torch.zeros(1))
    assert x.to(device) is x
    assert x.state["s"].device.type == x.reward.device.type == device.type
    assert x.note.device.type == "cpu"
    moved = x.state["s"]
    assert x.to(None).state["s"] is moved


def test_copies_and_pickles_are_equal_and_apart():
    x = transition(note=[1])
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(y) is Transition
        assert y.keys() == x.keys()
        assert torch.equal(y.state["s"], x.state["s"])
        assert y.state["s"].data_ptr() != x.state["s"].data_ptr()
        y.reward = 7
        y.note.append(2)
    assert (x.reward, x.note) == (1.5, [1])


def test_a_subclass_may_keep_more_and_have_other_attributes():
    class Expert(TransitionBase):
        def __init__(self, state, source):
            self.source = source
            super().__init__(["state"], [], [], [state], [], [])

    x = Expert({"s": torch.zeros(1, 2)}, "human")
    assert (x.source, len(x), x.sub_attr) == ("human", 1, [])

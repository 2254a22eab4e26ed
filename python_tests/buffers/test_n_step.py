"""Transitions of several steps against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from machin_fast.buffers import Buffer, PrioritizedBuffer, RNNBuffer
from machin_fast.transition import TransitionBase

DISCOUNT = 0.9


def episode(length: int, *, first: int = 0, terminal: bool = True, tensors: bool = False) -> list:
    steps = []
    for i in range(first, first + length):
        reward = float(i + 1)
        steps.append({
            "state": {"x": torch.full((1, 2), float(i))},
            "action": {"a": torch.full((1, 1), i)},
            "next_state": {"x": torch.full((1, 2), i + 0.5)},
            "reward": torch.tensor([[reward]]) if tensors else reward,
            "terminal": terminal and i == first + length - 1,
            "note": f"n{i}",
        })  # fmt: skip
    return steps


def expected(steps: list, n: int) -> list[tuple[float, float, bool, float]]:
    """Reward, next state, terminal and discount of each step, by the definition."""
    rows = []
    for i in range(len(steps)):
        window = steps[i : i + n]
        reward = sum(DISCOUNT**k * float(step["reward"]) for k, step in enumerate(window))
        last = window[-1]
        factor = 0.0 if last["terminal"] else DISCOUNT ** len(window)
        rows.append((reward, last["next_state"]["x"][0, 0].item(), last["terminal"], factor))
    return rows


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("kind", [Buffer, PrioritizedBuffer])
def test_transitions_span_n_steps_within_their_episode(kind, n, tensors, device):
    buffer = kind(100, buffer_device=device, n_step=n, discount=DISCOUNT)
    episodes = [
        episode(5, tensors=tensors),
        episode(1, first=5, tensors=tensors),
        episode(4, first=6, terminal=False, tensors=tensors),
    ]
    for each in episodes:
        buffer.store_episode(each)
    stored = [buffer.storage[i] for i in range(buffer.size())]
    wanted = [row for each in episodes for row in expected(each, n)]
    for i, (transition, (reward, following, terminal, factor)) in enumerate(
        zip(stored, wanted, strict=True)
    ):
        assert float(transition.reward) == pytest.approx(reward)
        assert transition.next_state["x"][0, 0] == following
        assert bool(transition.terminal) is terminal
        assert transition.discount == pytest.approx(factor)
        assert transition.state["x"][0, 0] == i  # of the first step
        assert transition.note == f"n{i}"


def test_the_discount_comes_with_a_batch():
    buffer = Buffer(10, n_step=3, discount=DISCOUNT)
    buffer.store_episode(episode(4))
    n, (reward, others) = buffer.sample_batch(4, sample_method="all", sample_attrs=["reward", "*"])
    assert (n, reward.shape) == (4, (4, 1))
    assert others["discount"] == pytest.approx([DISCOUNT**3, 0, 0, 0])


def test_batched_entries_span_steps_too():
    steps, envs = 6, 2
    number = np.arange(steps * envs, dtype=np.float32).reshape(steps, envs)
    columns = {
        "state": {"x": number[..., None]}, "action": {"a": number[..., None]},
        "next_state": {"x": number[..., None] + 100}, "reward": number,
        "terminal": np.zeros((steps, envs), bool),
    }  # fmt: skip
    buffer = Buffer(100, n_step=2, discount=DISCOUNT)
    buffer.store_rollout(columns)
    first = buffer.storage[0]
    assert float(first.reward) == pytest.approx(0 + DISCOUNT * 2)
    assert first.next_state["x"].item() == 102
    last = buffer.storage[5]  # the end of the first environment: one step
    assert float(last.reward) == 10
    assert last.discount == pytest.approx(DISCOUNT)


def test_one_step_is_what_machin_stores():
    buffer = RNNBuffer(2, buffer_size=10)
    assert buffer.n_step == 1
    buffer.store_episode(episode(3))
    assert not buffer.storage[0].has_keys(["discount"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_step": 0}, "Buffer: n_step must be at least 1, got 0"),
        ({"discount": 1.5}, r"Buffer: discount must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Buffer(10, **arguments)


def test_what_cannot_span_steps_is_refused_and_nothing_stored():
    buffer = Buffer(10, n_step=2)
    steps = episode(2)
    for bad, message in (
        ([dict(each, discount=1.0) for each in steps], "must have no discount with n_step"),
        ([dict(each, reward=torch.ones(1, 2)) for each in steps], "must be one number"),
        ([steps[0], {k: x for k, x in steps[1].items() if k != "note"}], "same attributes"),
        (
            [TransitionBase(["state"], ["reward"], [], [{"x": torch.ones(1, 1)}], [1.0], [])],
            "of class Transition",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            buffer.store_episode(bad, required_attrs=())
        assert buffer.size() == 0

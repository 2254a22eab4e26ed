# ruff: noqa: NPY002 (the buffers draw by numpy's global generator)
from __future__ import annotations

import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch

from buffers.steps import step, steps
from machin_fast.buffers import RNNBuffer, RNNPrioritizedBuffer, TransitionStorageBasic
from machin_fast.buffers.buffer import Buffer


def fill(buffer: Buffer, *lengths: int) -> Buffer:
    first = 0
    for length in lengths:
        buffer.store_episode(steps(range(first, first + length)))
        first += length
    return buffer


def windows(buffer: Buffer, *arguments, **named) -> list[list[int]]:
    batch = buffer.sample_batch(*arguments, sample_attrs=["number"], **named)[1]
    return [] if batch is None else batch[0]


@pytest.mark.parametrize("given", [False, True])
def test_all_windows_come_in_order_and_short_episodes_never(given):
    storage = {"storage": TransitionStorageBasic(20)} if given else {}
    buffer = fill(RNNBuffer(3, buffer_size=20, **storage), 4, 2, 3)
    assert windows(buffer, 0, sample_method="all") == [[0, 1, 2], [1, 2, 3], [6, 7, 8]]
    n, batch = buffer.sample_batch(0, sample_method="all")
    assert n == 3 and batch[0]["position"].shape == (3, 3, 2)


@pytest.mark.parametrize("given", [False, True])
def test_windows_run_past_the_end_of_the_ring(given):
    storage = {"storage": TransitionStorageBasic(10)} if given else {}
    buffer = fill(RNNBuffer(4, buffer_size=10, **storage), 3, 4, 6)
    assert list(buffer.episode_transition_handles.values())[-1] == [7, 8, 9, 0, 1, 2]
    assert windows(buffer, 0, sample_method="all") == [
        [3, 4, 5, 6], [7, 8, 9, 10], [8, 9, 10, 11], [9, 10, 11, 12],
    ]  # fmt: skip


def test_random_windows_are_of_one_episode_and_every_start_is_as_likely():
    buffer = fill(RNNBuffer(3, buffer_size=20), 5, 4, 2)
    random.seed(0)
    starts: Counter[int] = Counter()
    for _ in range(3000):
        drawn = windows(buffer, 9)
        assert sorted(len(range(a, b + 1)) for a, _, b in drawn) == [3, 3]
        assert sorted(window[0] >= 5 for window in drawn) == [False, True]
        starts.update(window[0] for window in drawn)
    assert set(starts) == {0, 1, 2, 5, 6}
    assert all(abs(starts[i] - 1000) < 150 for i in (0, 1, 2))
    assert all(abs(starts[i] - 1500) < 150 for i in (5, 6))
    twice = [windows(buffer, 2, sample_method="random") for _ in range(50)]
    assert {len(drawn) for drawn in twice} == {2}
    assert any(a[0] // 5 == b[0] // 5 for a, b in twice)
    assert len(windows(buffer, 1)) == 1


@pytest.mark.parametrize("n", [0, -1])
@pytest.mark.parametrize("method", ["random", "random_unique"])
def test_nothing_is_drawn_of_nothing(n, method):
    assert fill(RNNBuffer(3, buffer_size=9), 3).sample_batch(n, sample_method=method) == (0, None)
    for each in (method, "all"):
        buffer = fill(RNNBuffer(3, buffer_size=9), 2, 1)
        assert buffer.sample_batch(2, sample_method=each) == (0, None)


@pytest.mark.parametrize(
    ("dimension", "position", "reward"),
    [(0, [3, 2, 2], [3, 2, 1]), (1, [2, 3, 2], [2, 3, 1]), (2, [2, 2, 3], [2, 1, 3]),
     (5, [2, 2, 3], [2, 1, 3])],
)  # fmt: skip
def test_the_time_axis_stands_where_it_is_asked_for(dimension, position, reward, device):
    buffer = RNNBuffer(3, dimension, 20, device)
    fill(buffer, 3, 3)
    _, batch = buffer.sample_batch(0, device=device, sample_method="all")
    assert list(batch[0]["position"].shape) == position
    assert list(batch[3].shape) == reward
    time = 0 if dimension == 0 else 1
    assert batch[0]["goal"].movedim(time, 1).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert batch[5] == [[0, 1, 2], [3, 4, 5]]


def test_lists_and_joined_custom_attributes_are_windows():
    buffer = fill(RNNBuffer(2, buffer_size=20), 3)
    position, number = buffer.sample_batch(
        0, False, sample_method="all", sample_attrs=["state", "number"]
    )[1]
    assert number == [[0, 1], [1, 2]]
    assert [[x.tolist() for x in w] for w in position["goal"]] == [[[0], [1]], [[1], [2]]]
    (number,) = buffer.sample_batch(
        0, sample_method="all", sample_attrs=["number"], additional_concat_attrs=["number"]
    )[1]
    assert number.tolist() == [[[0], [1]], [[1], [2]]]


def test_sample_methods_give_transitions_one_after_the_other():
    buffer = fill(RNNBuffer(2, buffer_size=20), 3)
    n, batch = buffer.sample_method_all(0)
    assert n == 2 and [x.number for x in batch] == [0, 1, 1, 2]
    last = lambda b, n: (1, b.sample_method_all(n)[1][-2:])  # noqa: E731
    assert windows(buffer, 1, sample_method=last) == [[1, 2]]


@pytest.mark.parametrize("make", [RNNBuffer, RNNPrioritizedBuffer])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_length": 0}, "sample_length must be at least 1, got 0"),
        ({"sample_length": 1, "sample_dimension": -1}, "sample_dimension must be at least 0"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises(ValueError, match=f"{make.__name__}: {message}"):
        make(**arguments)


# -- prioritized -------------------------------------------------------------------------------


def weights(buffer: RNNPrioritizedBuffer) -> list[float]:
    return buffer.wt_tree.get_leaf_all_weights().tolist()


def test_only_starts_of_whole_windows_have_a_weight():
    buffer = RNNPrioritizedBuffer(3, buffer_size=12, epsilon=0.0, alpha=1.0)
    for first, length in ((0, 5), (5, 2), (7, 3)):
        buffer.store_episode(steps(range(first, first + length)), np.arange(length) + 1.0)
    assert weights(buffer) == [1, 2, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    buffer.update_priority(np.full(12, 9.0), np.arange(12))
    assert weights(buffer) == [9, 9, 9, 0, 0, 0, 0, 9, 0, 0, 0, 0]
    assert buffer.stale_updates == 8
    buffer.store_episode(steps(range(10, 14)))  # past the end of the ring, over the first episode
    assert weights(buffer) == [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 9, 9]


def test_windows_are_drawn_by_the_priority_of_their_start(device):
    buffer = RNNPrioritizedBuffer(3, 1, 12, device, epsilon=0.0, alpha=1.0)
    buffer.store_episode(steps(range(5)), [0, 2, 1, 50, 50])
    buffer.store_episode(steps(range(5, 8)), [1, 0, 0])
    n, batch, index, is_weight = buffer.sample_batch(400, device=device)
    assert n == 400 and batch[0]["position"].shape == (400, 3, 2)
    assert Counter(index.tolist()) == {1: 200, 2: 100, 5: 100}
    assert batch[0]["goal"].tolist() == [[i, i + 1, i + 2] for i in index]
    assert batch[5] == batch[0]["goal"].tolist()
    np.testing.assert_allclose(is_weight, np.where(index == 1, 0.5**0.4, 1))
    buffer.update_priority(np.where(index == 1, 0, 1), index)
    assert weights(buffer)[:6] == [0, 0, 1, 0, 0, 1]


def test_windows_of_a_wrapped_ring_are_drawn_whole():
    buffer = RNNPrioritizedBuffer(4, buffer_size=10)
    fill(buffer, 3, 4, 6)
    drawn = windows(buffer, 100)
    assert {tuple(x) for x in drawn} == {(n, n + 1, n + 2, n + 3) for n in (3, 7, 8, 9)}


def test_nothing_is_drawn_where_no_window_is_whole():
    buffer = RNNPrioritizedBuffer(3, buffer_size=10)
    fill(buffer, 2, 1)
    assert buffer.size() == 3
    assert buffer.sample_batch(5) == (0, None, None, None)


def test_where_all_weights_are_0_all_windows_are_drawn_alike():
    buffer = RNNPrioritizedBuffer(3, buffer_size=10, epsilon=0.0)
    fill(buffer, 4, 2)
    assert Counter(buffer.sample_batch(10)[2].tolist()) == {0: 5, 1: 5}


def test_rollouts_and_older_names_work():
    buffer = RNNPrioritizedBuffer(1, buffer_size=10)
    buffer.append(step(0, number=0), 1.0)
    buffer.store_transition(step(1, number=1))
    assert set(buffer.sample_batch(10)[2]) == {0, 1}


def test_a_copy_goes_on_where_the_buffer_was():
    buffer = RNNPrioritizedBuffer(2, buffer_size=7)
    fill(buffer, 3, 3, 3)
    again = pickle.loads(pickle.dumps(buffer))
    for each in (buffer, again):
        np.random.seed(1)
        fill(each, 2)
    assert weights(again) == weights(buffer)
    drawn = []
    for each in (buffer, again):
        np.random.seed(1)
        drawn.append(each.sample_batch(9)[1][0]["position"])
    assert torch.equal(*drawn)

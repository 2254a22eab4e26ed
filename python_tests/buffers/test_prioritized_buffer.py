"""``PrioritizedBuffer`` against Machin's contract, whose draws are by numpy's global generator."""
# ruff: noqa: NPY002

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from buffers.steps import assert_batch, columns, step, steps
from machin_fast.buffers import PrioritizedBuffer, TransitionStorageBasic


def filled(*lengths: int, size: int = 20, **arguments) -> PrioritizedBuffer:
    buffer = PrioritizedBuffer(size, **arguments)
    first = 0
    for length in lengths:
        buffer.store_episode(steps(range(first, first + length)))
        first += length
    return buffer


def weights(buffer: PrioritizedBuffer) -> list[float]:
    return buffer.wt_tree.get_leaf_all_weights().tolist()


# -- Machin's own numbers ----------------------------------------------------------------------


def test_machin_s_draws_and_weights():
    buffer = PrioritizedBuffer(5)
    buffer.store_episode(steps(range(5)), priorities=[1, 1, 1, 0.3, 0.3])
    np.random.seed(0)
    n, batch, index, is_weight = buffer.sample_batch(5)
    assert n == 5
    assert index.tolist() == [0, 1, 2, 2, 4]
    assert is_weight.dtype == np.float64
    np.testing.assert_allclose(is_weight, [0.75316421] * 4 + [1.0], atol=1e-8)
    assert_batch(batch, [0, 1, 2, 2, 4])
    assert buffer.curr_beta == 0.4 + 0.001


def test_the_first_default_weight_is_epsilon_to_the_alpha():
    assert weights(filled(2))[:3] == [0.01**0.6, 0.01**0.6, 0]


def test_the_default_is_the_largest_priority_and_alpha_is_applied_once():
    buffer = filled(1)
    buffer.update_priority([-2.0], [0])
    buffer.append(step(1))
    buffer.append(step(2), 0.5)
    buffer.store_episode(steps([3]), [0.25])
    buffer.append(step(4))
    expected = (np.array([2, 2, 0.5, 0.25, 2]) + 0.01) ** 0.6
    np.testing.assert_allclose(weights(buffer)[:5], expected, rtol=1e-15)


def test_batches_match_the_formulas():
    priority = np.random.default_rng(0).normal(size=50)
    buffer = PrioritizedBuffer(64, epsilon=0.1, alpha=0.7, beta=0.9, beta_increment_per_sampling=1)
    buffer.store_episode(steps(range(50)), priority)
    mass = (np.abs(priority) + 0.1) ** 0.7
    for beta in (0.9, 1.0):
        np.random.seed(4)
        n, batch, index, is_weight = buffer.sample_batch(200)
        np.random.seed(4)
        target = (np.random.uniform(size=200) + np.arange(200)) / 200 * mass.sum()
        assert n == 200
        assert np.array_equal(index, np.searchsorted(np.cumsum(mass), target))
        expected = (50 * mass[index] / mass.sum()) ** -beta
        np.testing.assert_allclose(is_weight, expected / expected.max(), rtol=1e-12)
        assert_batch(batch, index)
    assert buffer.curr_beta == 1.0


# -- what is drawn -----------------------------------------------------------------------------


def test_one_can_be_drawn():
    n, batch, index, is_weight = filled(3).sample_batch(1)
    assert n == 1 and index.shape == is_weight.shape == (1,) and is_weight[0] == 1
    assert_batch(batch, index)


@pytest.mark.parametrize("n", [0, -1])
def test_nothing_is_drawn_of_nothing(n):
    assert filled(3).sample_batch(n) == (0, None, None, None)
    assert PrioritizedBuffer(3).sample_batch(5) == (0, None, None, None)


def test_draws_are_in_proportion_and_none_has_weight_0():
    buffer = PrioritizedBuffer(8, epsilon=0.0, alpha=1.0)
    priority = np.array([0, 1, 0, 5, 2, 0, 0, 0])
    buffer.store_episode(steps(range(8)), priority)
    drawn = np.bincount(buffer.sample_batch(80_000)[2], minlength=8)
    assert (drawn[priority == 0] == 0).all()
    np.testing.assert_allclose(drawn, priority * 10_000, atol=1)  # stratified


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1, 0)])
@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e200])
def test_no_rounding_draws_a_weight_of_0(uniform, scale, monkeypatch):
    buffer = PrioritizedBuffer(40, epsilon=0.0, alpha=1.0)
    buffer.store_episode(steps(range(40)), scale * np.array([0, 0.1, 0.2, 0] * 10))
    monkeypatch.setattr(np.random, "uniform", lambda size: np.full(size, uniform))
    for n in (1, 2, 3, 30, 1000):
        index = buffer.sample_batch(n)[2]
        assert set(index % 4) <= {1, 2}


def test_where_all_weights_are_0_all_are_drawn_alike():
    buffer = PrioritizedBuffer(8, epsilon=0.0)
    for first in (0, 3, 6):
        buffer.store_episode(steps(range(first, first + 3)))  # the first one is gone
    n, _, index, is_weight = buffer.sample_batch(6000)
    assert n == 6000 and (is_weight == 1).all()
    drawn = np.bincount(index, minlength=8)
    assert (drawn[[1, 2]] == 0).all() and (drawn[[0, 3, 4, 5, 6, 7]] == 1000).all()


def test_a_partly_overwritten_episode_has_weight_0_and_is_never_drawn():
    buffer = filled(6, size=10)
    buffer.store_episode(steps(range(6, 12)), np.full(6, 3.0))
    kept = [6, 7, 8, 9, 0, 1]
    assert [i for i, weight in enumerate(weights(buffer)) if weight] == sorted(kept)
    assert set(buffer.sample_batch(100)[2]) == set(kept)
    buffer.update_priority(np.ones(10), np.arange(10))
    assert [i for i, weight in enumerate(weights(buffer)) if weight] == sorted(kept)
    assert buffer.stale_updates == 4


# -- priorities --------------------------------------------------------------------------------


def test_priorities_of_overwritten_transitions_are_skipped_and_counted():
    buffer = PrioritizedBuffer(4, epsilon=0.0, alpha=1.0)
    for number in range(4):
        buffer.append(step(number), 1.0)
    index = buffer.sample_batch(4)[2]
    buffer.append(step(4), 1.0)
    buffer.update_priority(np.full(4, 7.0), index)
    assert weights(buffer) == [1, 7, 7, 7]
    assert buffer.stale_updates == 1
    buffer.append(step(5))
    assert weights(buffer) == [1, 7, 7, 7]  # the largest so far, 7, at place 1
    buffer.update_priority([9.0], [0])  # plain indexes mean what is there now
    buffer.update_priority([8.0], index[:1])
    assert weights(buffer)[0] == 8
    again = pickle.loads(pickle.dumps(index))
    assert again.rows is copy.copy(index).rows is None and np.array_equal(again, index)
    buffer.clear()
    for number in range(4):
        buffer.append(step(number), 1.0)
    buffer.update_priority(np.full(4, 7.0), index)
    assert weights(buffer) == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, np.float32])
def test_priorities_may_be_of_any_kind(kind):
    buffer = filled(3)
    buffer.update_priority(kind([-1.0, 0.5]), kind([0, 2]) if kind is not np.float32 else [0, 2])
    np.testing.assert_allclose(weights(buffer)[:3:2], [1.01**0.6, 0.51**0.6], rtol=1e-6)


def test_priorities_may_come_from_a_loss_with_gradients(device):
    buffer = filled(3, buffer_device=device)
    index = buffer.sample_batch(2)[2]
    buffer.update_priority(torch.ones(2, device=device, requires_grad=True) * 2, index)
    assert weights(buffer)[index[0]] == (2 + 0.01) ** 0.6


def test_the_last_of_repeated_indexes_counts():
    buffer = filled(3, epsilon=0.0, alpha=1.0)
    buffer.update_priority([1, 2, 3], [1, 0, 1])
    assert weights(buffer)[:3] == [2, 3, 0]
    buffer.update_priority([], [])


@pytest.mark.parametrize(
    ("priorities", "indexes", "error", "message"),
    [
        ([1, np.nan], [0, 1], ValueError, "priorities must be finite, got nan at position 1"),
        ([np.inf], [0], ValueError, "priorities must be finite, got inf at position 0"),
        ([-np.inf], [0], ValueError, "priorities must be finite, got -inf at position 0"),
        ([1, 1e308], [0, 1], ValueError, r"weight must be in .*got 1e\+308 at position 1"),
        ([1], [0, 1], ValueError, r"doesn't match: priorities must be \[n\].*\[2\], got \[1\]"),
        ([[1]], [[0]], ValueError, r"priorities must be \[n\]"),
        ([1, 1], [0, 20], ValueError, "out of boundary.*got 20 at position 1"),
        ([1], [-1], ValueError, "out of boundary.*got -1"),
        ([1], [0.5], TypeError, "index must be int, got float64"),
    ],
)
def test_a_bad_priority_changes_nothing(priorities, indexes, error, message):
    buffer = filled(3, alpha=1.0, epsilon=0.5)
    with pytest.raises(error, match=f"PrioritizedBuffer.update_priority: .*{message}"):
        buffer.update_priority(priorities, indexes)
    buffer.append(step(3))
    assert weights(buffer)[:5] == [0.5] * 4 + [0]


@pytest.mark.parametrize(
    ("priorities", "message"),
    [
        ([1, np.nan], "priorities must be finite, got nan at position 1"),
        ([1], r"priorities must be \[n\].*got \[1\]"),
    ],
)
def test_an_episode_with_a_bad_priority_changes_nothing(priorities, message):
    buffer = filled(3, alpha=1.0, epsilon=0.5)
    with pytest.raises(ValueError, match=f"PrioritizedBuffer: .*{message}"):
        buffer.store_episode(steps([3, 4]), priorities)
    with pytest.raises(ValueError, match=f"PrioritizedBuffer: .*{message}"):
        buffer.store_transitions(columns([3, 4]), priorities)
    buffer.append(step(5))
    assert weights(buffer)[:5] == [0.5] * 4 + [0]
    assert (buffer.size(), buffer.episode_counter) == (4, 2)


def test_batches_take_priorities():
    buffer = PrioritizedBuffer(20, alpha=1.0, epsilon=0.0)
    buffer.store_transitions(columns(range(3)), torch.tensor([1.0, 2.0, 3.0]))
    buffer.store_transitions(columns(range(2)))
    buffer.store_rollout(columns(range(6), 2, 3), np.arange(6.0).reshape(2, 3))
    assert weights(buffer)[:11] == [1, 2, 3, 3, 3, 0, 3, 1, 4, 2, 5]
    with pytest.raises(ValueError, match=r"priorities must be \[2, 3\], got \[3, 2\]"):
        buffer.store_rollout(columns(range(6), 2, 3), np.zeros((3, 2)))


# -- the rest ----------------------------------------------------------------------------------


def test_clear_begins_anew():
    buffer = filled(5, beta=0.5)
    buffer.update_priority([9], [0])
    buffer.sample_batch(2)
    buffer.clear()
    assert weights(buffer) == [0] * 20
    assert (buffer.curr_beta, buffer.size(), buffer.episode_counter) == (0.5, 0, 0)
    assert buffer.sample_batch(3) == (0, None, None, None)
    buffer.append(step(0))
    assert weights(buffer)[0] == 0.01**0.6


def test_attributes_and_lists_are_as_of_a_buffer(device):
    buffer = filled(4, buffer_device=device)
    _, (reward, rest), index, _ = buffer.sample_batch(
        3, False, "cpu", ["reward", "*"], additional_concat_attrs=["number"]
    )
    assert reward == [i / 10 for i in index] and rest == {"number": index.tolist()}
    _, (rest,), index, _ = buffer.sample_batch(
        3, sample_attrs=["*"], additional_concat_custom_attrs=["number"], device=device
    )
    assert rest["number"].tolist() == [[i] for i in index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": -1}, "epsilon must be finite and at least 0, got -1"),
        ({"alpha": float("inf")}, "alpha must be finite and at least 0, got inf"),
        ({"beta": 1.5}, r"beta must be in \[0, 1\], got 1.5"),
        ({"beta_increment_per_sampling": float("nan")}, "beta_increment_per_sampling must be"),
        ({"storage": TransitionStorageBasic(5)}, "storage must be None"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"PrioritizedBuffer: {message}"):
        PrioritizedBuffer(5, **arguments)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_where_the_buffer_was(how):
    buffer = filled(3, 4, 3, size=8)
    buffer.update_priority([5, 3], [0, 7])
    again = how(buffer)
    results = []
    for each in (buffer, again):
        each.append(step(9, number=9))
        np.random.seed(0)
        n, _, index, is_weight = each.sample_batch(30)
        results.append((n, index.tolist(), is_weight.tolist(), weights(each)))
    assert results[0] == results[1]
    again.update_priority([50], [0])
    assert weights(buffer) == results[0][3]

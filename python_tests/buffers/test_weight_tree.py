from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from machin_fast.buffers import WeightTree
from machin_fast.buffers.prioritized_buffer import WeightTree as ByMachinsPath

SIZES = [1, 2, 3, 5, 16, 17, 257, 1000]


def filled(size: int, seed: int = 0) -> tuple[WeightTree, np.ndarray]:
    weights = np.random.default_rng(seed).integers(0, 4, size).astype(float)
    weights[seed % size] = 3
    tree = WeightTree(size)
    tree.update_all_leaves(weights)
    return tree, weights


def test_the_layout_is_machin_s():
    tree = WeightTree(5)
    tree.update_all_leaves([1, 1, 1, 0, 3])
    assert tree.weights.tolist() == [1, 1, 1, 0, 3, 0, 0, 0, 2, 1, 3, 0, 3, 3, 6]
    assert tree.sizes.tolist() == [8, 4, 2, 1]
    assert tree.offsets.tolist() == [0, 8, 12, 14, 15]
    assert (tree.size, tree.depth, tree.max_leaf, tree.get_weight_sum()) == (5, 4, 3.0, 6.0)
    assert ByMachinsPath is WeightTree


@pytest.mark.parametrize("size", SIZES)
def test_levels_are_sums_of_pairs_up_to_the_root(size):
    tree, weights = filled(size)
    levels = [tree.weights[a:b] for a, b in itertools.pairwise(tree.offsets)]
    assert [len(level) for level in levels] == tree.sizes.tolist()
    assert np.array_equal(levels[0][:size], weights)
    for below, level in itertools.pairwise(levels):
        assert np.array_equal(level, below[::2] + below[1::2])
    assert levels[-1][0] == tree.get_weight_sum() == weights.sum()


@pytest.mark.parametrize("size", SIZES)
def test_find_goes_right_only_past_the_sum_of_the_left(size):
    tree, weights = filled(size)
    wanted = np.arange(-1, weights.sum() + 2, 0.5)
    found = tree.find_leaf_index(wanted)
    expected = np.searchsorted(np.cumsum(weights), wanted, side="left")
    expected = np.where(wanted <= 0, 0, np.minimum(expected, size - 1))
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)
    assert np.array_equal(tree.find_leaf_index(wanted.tolist()), expected)


def test_one_in_one_out():
    tree, weights = filled(5)
    for number in (3, 3.0, np.float32(3)):
        assert type(tree.find_leaf_index(number)) is int
    for index in (2, np.int64(2)):
        assert type(tree.get_leaf_weight(index)) is float
    assert tree.get_leaf_weight(2) == weights[2]
    assert tree.find_leaf_index([3.0]).shape == (1,)
    assert tree.get_leaf_weight(np.array([2])).shape == (1,)
    assert tree.get_leaf_weight([4, 2, 2]).tolist() == weights[[4, 2, 2]].tolist()
    assert tree.find_leaf_index([]).shape == tree.get_leaf_weight([]).shape == (0,)


def test_a_tree_of_zeros_can_be_searched():
    assert WeightTree(5).find_leaf_index([-1, 0, 1]).tolist() == [0, 0, 4]


def test_updates_change_what_they_say_and_the_last_of_repeated_ones_counts():
    tree = WeightTree(6)
    tree.update_leaf(2.5, 5)
    tree.update_leaf_batch([1, 2, 3, 4], [0, 3, 0, 1])
    assert tree.get_leaf_all_weights().tolist() == [3, 4, 0, 2, 0, 2.5]
    assert tree.get_weight_sum() == tree.weights[-1] == 11.5
    tree.update_leaf_batch([], [])
    tree.update_leaf_batch(np.array([9.0]), np.array([2], np.int32))
    assert tree.get_leaf_weight(2) == 9


def test_the_largest_weight_ever_set_is_remembered_until_all_are_set():
    tree = WeightTree(3)
    assert tree.get_leaf_max() == 0
    tree.update_leaf_batch([7, 1], [0, 0])
    tree.update_leaf(2, 1)
    assert tree.get_leaf_max() == 7
    tree.update_all_leaves([1, 2, 3])
    assert tree.get_leaf_max() == 3


def test_all_weights_are_a_view_that_cannot_break_the_sums():
    tree, _ = filled(5)
    weights = tree.get_leaf_all_weights()
    tree.update_leaf(8, 1)
    assert weights[1] == 8
    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.update_leaf(1, 5), r"update_leaf: Index has elements out of boundary.*got 5"),
        (lambda t: t.update_leaf(1, -1), r"Index has elements out of boundary.*\[0, 5\), got -1"),
        (lambda t: t.get_leaf_weight(5), "get_leaf_weight: Index has elements out of boundary"),
        (lambda t: t.get_leaf_weight([0, 9]), "got 9 at position 1"),
        (lambda t: t.update_leaf_batch([1, 2], [0]), "Dimension of weights and indexes doesn't"),
        (lambda t: t.update_leaf_batch([[1]], [[0]]), "Dimension of weights and indexes doesn't"),
        (lambda t: t.update_leaf_batch([1, 2], [0, 5]), "out of boundary.*got 5 at position 1"),
        (lambda t: t.update_leaf_batch([1, np.nan], [0, 1]), "weight must be .*nan at position 1"),
        (lambda t: t.update_leaf_batch([-1], [0]), r"weight must be in .*got -1.0 at position 0"),
        (lambda t: t.update_leaf(np.inf, 0), "weight must be in .*got inf"),
        (lambda t: t.update_leaf(1e308, 0), "weight must be in .*got 1e[+]308"),
        (lambda t: t.update_all_leaves([1] * 4), "must match tree size.*got 4"),
        (lambda t: t.update_all_leaves([1] * 4 + [np.nan]), "weight must be .*nan at position 4"),
        (
            lambda t: t.find_leaf_index([1, np.nan]),
            "weight must be a number, got nan at position 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(call, message):
    tree, weights = filled(5)
    with pytest.raises(ValueError, match=f"WeightTree.*{message}"):
        call(tree)
    assert tree.get_leaf_all_weights().tolist() == weights.tolist()
    assert tree.get_leaf_max() == 3


def test_arguments_of_another_type_are_refused():
    with pytest.raises(TypeError, match="index must be int, got float64"):
        WeightTree(5).update_leaf_batch([1.0], [2.0])
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        WeightTree(0)


def test_the_largest_weights_allowed_have_a_sum():
    tree = WeightTree(100)
    tree.update_all_leaves(np.full(100, tree._largest))
    assert np.isfinite(tree.get_weight_sum())


def test_print_weights_prints_levels(capsys):
    tree = WeightTree(2)
    tree.update_all_leaves([1, 0.25])
    tree.print_weights(precision=1)
    assert capsys.readouterr().out == "['1.0', '0.2']\n['1.2']\n"


def test_a_pickle_is_the_same_tree():
    tree, weights = filled(17)
    again = pickle.loads(pickle.dumps(tree))
    again.update_leaf(9, 3)
    assert tree.get_leaf_all_weights().tolist() == weights.tolist()
    assert again.get_weight_sum() == weights.sum() - weights[3] + 9

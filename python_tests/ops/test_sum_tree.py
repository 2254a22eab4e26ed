from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from machin_fast.ops import (
    sum_tree_find,
    sum_tree_leaves,
    sum_tree_minimum,
    sum_tree_new,
    sum_tree_rebuild_,
    sum_tree_sample,
    sum_tree_total,
    sum_tree_update_,
)

DTYPES = [torch.float32, torch.float64]
OPS = torch.ops.machin_fast


def tree_of(weight: Tensor, *, minimum: bool = False) -> Tensor:
    capacity = len(weight)
    nodes = sum_tree_new(capacity, dtype=weight.dtype, device=weight.device, minimum=minimum)
    index = torch.arange(capacity, device=weight.device)
    sum_tree_update_(nodes, index, weight, capacity=capacity)
    return nodes


def random_weights(n: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Of very different magnitudes, some 0, the last one positive."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.rand(n, generator=random, dtype=dtype) ** 8 * 100
    weight[torch.rand(n, generator=random) < 0.2] = 0
    weight[-1] = 1
    return weight


def chi_square_limit(degrees: int) -> float:
    """The value exceeded with probability 0.001 (Wilson and Hilferty's approximation)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_find_agrees_with_searchsorted_at_every_capacity(
    dtype: torch.dtype, device: torch.device
) -> None:
    random = torch.Generator().manual_seed(1)
    for capacity in range(1, 258):
        weight = torch.randint(0, 5, (capacity,), generator=random).to(dtype)
        weight[-1] = 1  # whole numbers, so that every sum is exact
        cumulative = weight.double().numpy().cumsum()
        target = torch.arange(cumulative[-1], dtype=torch.float64)
        found = sum_tree_find(tree_of(weight.to(device)), target.to(device), capacity=capacity)
        expected = np.searchsorted(cumulative, target.numpy(), side="right")
        assert_close(found.cpu(), torch.from_numpy(expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capacity", [1, 7, 64, 65, 1000, 5000])
def test_total_minimum_and_leaves(capacity: int, dtype: torch.dtype, device: torch.device) -> None:
    weight = random_weights(capacity, dtype).to(device)
    nodes = tree_of(weight, minimum=True)
    assert torch.equal(sum_tree_leaves(nodes, capacity=capacity), weight)
    relative = 1e-6 if dtype == torch.float32 else 1e-14
    total = sum_tree_total(nodes, capacity=capacity)
    assert_close(total, weight.double().sum(), rtol=relative, atol=0)
    assert sum_tree_minimum(nodes, capacity=capacity) == weight[weight > 0].min()


@settings(max_examples=500)
@given(st.data())
def test_any_program_equals_a_plain_array(data: st.DataObject) -> None:
    """Random updates, good and bad, samples and rebuilds, against a list of weights."""
    capacity = data.draw(st.integers(1, 300), "capacity")
    dtype = data.draw(st.sampled_from(DTYPES), "dtype")
    minimum = data.draw(st.booleans(), "minimum")
    nodes = sum_tree_new(capacity, dtype=dtype, minimum=minimum)
    model = torch.zeros(capacity, dtype=dtype)
    good_index = st.integers(0, capacity - 1)
    good_weight = st.one_of(st.just(0.0), st.floats(2.0**-60, 2.0**60, width=32))
    bad_index = st.sampled_from([-1, capacity, 2**40, -(2**63), 2**63 - 1])
    bad_weight = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, torch.finfo(dtype).max])

    for _ in range(data.draw(st.integers(1, 6), "steps")):
        step = data.draw(st.sampled_from(["update", "bad", "sample", "rebuild"]), "step")
        if step in ("update", "bad"):
            pairs = data.draw(st.lists(st.tuples(good_index, good_weight), max_size=40))
            if step == "bad":
                wrong = data.draw(
                    st.one_of(st.tuples(bad_index, good_weight), st.tuples(good_index, bad_weight))
                )
                pairs.insert(data.draw(st.integers(0, len(pairs))), wrong)
            index = torch.tensor([i for i, _ in pairs], dtype=torch.int64)
            weight = torch.tensor([w for _, w in pairs], dtype=dtype)
            if step == "bad":
                before = nodes.clone()
                with pytest.raises(RuntimeError, match=r"sum_tree_update_: (index|weight) must"):
                    sum_tree_update_(nodes, index, weight, capacity=capacity)
                assert torch.equal(nodes, before)
            else:
                sum_tree_update_(nodes, index, weight, capacity=capacity)
                for i, w in zip(index.tolist(), weight, strict=True):
                    model[i] = w
        elif step == "rebuild":
            sum_tree_rebuild_(nodes, capacity=capacity)
        elif model.max() > 0:
            stratified = data.draw(st.booleans())
            index, weight, probability = sum_tree_sample(
                nodes, 33, capacity=capacity, stratified=stratified
            )
            assert torch.equal(weight, model[index])
            assert (weight > 0).all()
            total = model.double().sum()
            assert_close(probability.double(), weight.double() / total, rtol=1e-5, atol=1e-30)

        assert torch.equal(sum_tree_leaves(nodes, capacity=capacity), model)
        rebuilt = nodes.clone()
        sum_tree_rebuild_(rebuilt, capacity=capacity)
        assert torch.equal(nodes.view(torch.uint8), rebuilt.view(torch.uint8))


def test_ten_million_updates_leave_the_tree_equal_to_a_rebuild(device: torch.device) -> None:
    capacity, batch = 131_072, 10_000
    random = torch.Generator().manual_seed(2)
    nodes = tree_of(torch.rand(capacity, generator=random).to(device), minimum=True)
    for _ in range(1000):
        index = torch.randint(0, capacity, (batch,), generator=random)
        weight = torch.rand(batch, generator=random) ** 4
        sum_tree_update_(nodes, index.to(device), weight.to(device), capacity=capacity)
    rebuilt = nodes.clone()
    sum_tree_rebuild_(rebuilt, capacity=capacity)
    assert torch.equal(nodes, rebuilt)
    assert (nodes >= 0).all()
    leaves = sum_tree_leaves(nodes, capacity=capacity).double()
    assert_close(sum_tree_total(nodes, capacity=capacity), leaves.sum(), rtol=2e-7, atol=0)


@pytest.mark.parametrize("stratified", [False, True])
def test_draws_are_in_proportion_to_ten_million_weights(
    stratified: bool, device: torch.device
) -> None:
    capacity, draws, bins = 10_000_000, 1_000_000, 1000
    random = torch.Generator().manual_seed(3)
    weight = torch.rand(capacity, generator=random) ** 3
    nodes = tree_of(weight.to(device))
    index, _, _ = sum_tree_sample(
        nodes, draws, capacity=capacity, stratified=stratified, generator=random
    )
    # Bins across blocks, so that every place within a block counts in every bin.
    observed = torch.bincount(index.cpu() % bins, minlength=bins).double()
    expected = weight.double().reshape(-1, bins).sum(0)
    expected *= draws / expected.sum()
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < chi_square_limit(bins - 1)


def test_every_positive_leaf_of_ten_million_is_reachable(device: torch.device) -> None:
    capacity = 10_000_000
    nodes = tree_of(torch.ones(capacity, device=device))
    target = torch.arange(capacity, dtype=torch.float64, device=device) + 0.5
    found = sum_tree_find(nodes, target, capacity=capacity)
    assert torch.equal(found, torch.arange(capacity, device=device))


def test_half_zero_leaves_are_never_drawn(device: torch.device) -> None:
    capacity = 100_001
    weight = torch.zeros(capacity)
    weight[::2] = torch.rand(len(weight[::2]), generator=torch.Generator().manual_seed(4)) + 1e-6
    nodes = tree_of(weight.to(device))
    for stratified in (False, True):
        index, drawn, _ = sum_tree_sample(
            nodes, 1_000_000, capacity=capacity, stratified=stratified
        )
        assert (index % 2 == 0).all()
        assert (drawn > 0).all()


def test_largest_capacity_of_the_issue_works(device: torch.device) -> None:
    capacity = 100_000_000
    nodes = sum_tree_new(capacity, device=device)
    index = torch.tensor([0, 12_345_678, capacity - 1], device=device)
    weight = torch.tensor([1.0, 2.0, 1.0], device=device)
    sum_tree_update_(nodes, index, weight, capacity=capacity)
    target = torch.tensor([0.0, 1.0, 2.9, 3.0, 4.0], dtype=torch.float64, device=device)
    found = sum_tree_find(nodes, target, capacity=capacity)
    assert found.tolist() == [0, 12_345_678, 12_345_678, capacity - 1, capacity - 1]


def test_stratified_draws_take_one_from_each_part(device: torch.device) -> None:
    nodes = tree_of(torch.ones(640, device=device))
    index, _, _ = sum_tree_sample(nodes, 64, capacity=640)
    assert torch.equal(index.cpu() // 10, torch.arange(64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_are_weight_over_total(dtype: torch.dtype, device: torch.device) -> None:
    weight = random_weights(1000, dtype).to(device)
    index, drawn, probability = sum_tree_sample(tree_of(weight), 500, capacity=1000)
    relative = 1e-6 if dtype == torch.float32 else 1e-12
    assert torch.equal(drawn, weight[index])
    assert_close(probability, drawn / weight.sum(), rtol=relative, atol=0)


def test_the_generator_decides_the_draws(device: torch.device) -> None:
    nodes = tree_of(random_weights(1000).to(device))
    draws = [
        sum_tree_sample(nodes, 64, capacity=1000, generator=torch.Generator().manual_seed(seed))[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_both_devices_draw_the_same(device: torch.device) -> None:
    weight = random_weights(70_000)
    seed = torch.tensor(5)
    for stratified in (False, True):
        expected = OPS.sum_tree_sample(tree_of(weight), seed, 4096, 70_000, stratified, True)
        got = OPS.sum_tree_sample(tree_of(weight.to(device)), seed, 4096, 70_000, stratified, True)
        for x, y in zip(got, expected, strict=True):
            assert torch.equal(x.cpu(), y)


def test_out_is_written_and_returned(device: torch.device) -> None:
    nodes = tree_of(random_weights(100).to(device))
    out = (
        torch.empty(20, dtype=torch.int64, device=device),
        torch.empty(20, device=device),
        torch.empty(20, device=device),
    )
    results = sum_tree_sample(
        nodes, 20, capacity=100, generator=torch.Generator().manual_seed(1), out=out
    )
    expected = sum_tree_sample(nodes, 20, capacity=100, generator=torch.Generator().manual_seed(1))
    for result, given_out, value in zip(results, out, expected, strict=True):
        assert result is given_out
        assert torch.equal(result, value)


def test_non_contiguous_batches_are_taken(device: torch.device) -> None:
    weight = random_weights(200).to(device)
    nodes = sum_tree_new(100, device=device)
    index = torch.arange(200, device=device)[::2] // 2
    sum_tree_update_(nodes, index, weight[::2], capacity=100)
    assert torch.equal(sum_tree_leaves(nodes, capacity=100), weight[::2])


def test_nothing_to_do_is_fine(device: torch.device) -> None:
    nodes = tree_of(torch.ones(10, device=device))
    empty = torch.empty(0, dtype=torch.int64, device=device)
    sum_tree_update_(nodes, empty, torch.empty(0, device=device), capacity=10)
    index, weight, probability = sum_tree_sample(nodes, 0, capacity=10)
    assert index.numel() == weight.numel() == probability.numel() == 0
    assert sum_tree_find(nodes, weight.double(), capacity=10).numel() == 0


def test_unchecked_bad_batch_changes_nothing_on_cuda(device: torch.device) -> None:
    nodes = tree_of(torch.ones(10, device=device))
    before = nodes.clone()
    index, weight = torch.tensor([1, 10], device=device), torch.ones(2, device=device)
    if device.type == "cpu":  # nothing to wait for, so it is checked all the same
        with pytest.raises(RuntimeError, match="index must be in"):
            sum_tree_update_(nodes, index, weight, capacity=10, check=False)
    else:
        sum_tree_update_(nodes, index, weight, capacity=10, check=False)
    assert torch.equal(nodes, before)


F32 = r"1.06338e\+37"


@pytest.mark.parametrize(
    ("index", "weight", "message"),
    [
        ([0, 4], [1.0, 1.0], r"index must be in \[0, 4\), got 4 at position 1"),
        ([-1], [1.0], r"index must be in \[0, 4\), got -1 at position 0"),
        ([2**40], [1.0], r"index must be in \[0, 4\), got 1099511627776 at position 0"),
        (
            [0, 1, 2],
            [1.0, 2.0, math.nan],
            rf"weight must be in \[0, {F32}\].*got nan at position 2",
        ),
        ([0, 1], [math.inf, 2.0], r"weight must be in .*got inf at position 0"),
        ([0, 1], [1.0, -0.5], r"weight must be in .*got -0.5 at position 1"),
        ([0, 1], [1.0, 3e38], r"weight must be in .*got 3e\+38 at position 1"),
        ([0, 1], [1.0], r"weight must have shape \[2\], got \[1\]"),
        ([[0]], [[1.0]], r"index must be \[n\], got shape \[1, 1\]"),
        ([0.0], [1.0], r"index must be int64, got float32"),
        ([0], [1], r"weight must be float32, got int64"),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(
    index: list[int], weight: list[float], message: str, device: torch.device
) -> None:
    nodes = tree_of(torch.ones(4, device=device))
    before = nodes.clone()
    with pytest.raises(RuntimeError, match=r"sum_tree_update_: " + message):
        sum_tree_update_(
            nodes,
            torch.tensor(index, device=device),
            torch.tensor(weight, device=device),
            capacity=4,
        )
    assert torch.equal(nodes, before)


def test_overflow_of_the_total_is_refused_in_float64(device: torch.device) -> None:
    nodes = sum_tree_new(8, dtype=torch.float64, device=device)
    index = torch.arange(8, device=device)
    with pytest.raises(RuntimeError, match=r"so that the total stays finite, got 1e\+308"):
        sum_tree_update_(nodes, index, torch.full_like(index, 1e308, dtype=torch.float64),
                         capacity=8)  # fmt: skip
    assert (nodes == 0).all()


def test_wrong_trees_are_refused(device: torch.device) -> None:
    nodes = tree_of(torch.ones(100, device=device))
    with pytest.raises(RuntimeError, match="nodes must have 128 entries, or 144 with minimum"):
        sum_tree_sample(nodes[1:], 3, capacity=100)
    with pytest.raises(RuntimeError, match=r"capacity must be in \[1, 2147483648\], got 0"):
        sum_tree_sample(nodes, 3, capacity=0)
    with pytest.raises(RuntimeError, match=r"sum_tree_new: capacity must be in .*, got 0"):
        sum_tree_new(0)
    with pytest.raises(RuntimeError, match="sum_tree_new: dtype must be float32 or float64"):
        sum_tree_new(4, dtype=torch.float16)
    with pytest.raises(RuntimeError, match="sum_tree_minimum: nodes must keep the minimum"):
        sum_tree_minimum(nodes, capacity=100)
    with pytest.raises(RuntimeError, match="n must not be negative, got -1"):
        sum_tree_sample(nodes, -1, capacity=100)
    with pytest.raises(RuntimeError, match="nodes must be contiguous"):
        sum_tree_sample(torch.ones(256, device=device)[::2], 3, capacity=100)


def test_an_empty_tree_cannot_be_sampled(device: torch.device) -> None:
    nodes = sum_tree_new(4, device=device)
    with pytest.raises(RuntimeError, match="sum_tree_sample: nodes must hold a positive weight"):
        sum_tree_sample(nodes, 3, capacity=4)


def test_bad_targets_are_refused() -> None:
    nodes = tree_of(torch.ones(4))
    for bad in (-1.0, math.nan):
        target = torch.tensor([0.5, bad], dtype=torch.float64)
        with pytest.raises(
            RuntimeError, match=r"target must not be negative, got .* at position 1"
        ):
            sum_tree_find(nodes, target, capacity=4)
    with pytest.raises(RuntimeError, match="target must be float64, got float32"):
        sum_tree_find(nodes, torch.tensor([0.5]), capacity=4)


def test_rebuild_refuses_what_is_no_weight_and_changes_nothing(device: torch.device) -> None:
    nodes = tree_of(torch.ones(20, device=device))
    sum_tree_leaves(nodes, capacity=20)[7] = -1
    before = nodes.clone()
    with pytest.raises(RuntimeError, match=r"sum_tree_rebuild_: leaf must be in .*got -1 at pos"):
        sum_tree_rebuild_(nodes, capacity=20)
    assert torch.equal(nodes, before)


def test_rebuild_takes_leaves_that_were_written_directly(device: torch.device) -> None:
    weight = random_weights(1000).to(device)
    nodes = sum_tree_new(1000, device=device, minimum=True)
    sum_tree_leaves(nodes, capacity=1000).copy_(weight)
    sum_tree_rebuild_(nodes, capacity=1000)
    assert torch.equal(nodes, tree_of(weight, minimum=True))


def test_registration_is_sound(device: torch.device) -> None:
    nodes = tree_of(random_weights(100).to(device), minimum=True)
    index, weight = torch.tensor([3, 5], device=device), torch.tensor([1.0, 2.0], device=device)
    target = torch.tensor([0.5], dtype=torch.float64, device=device)
    seed = torch.tensor(5)
    out = {
        "index": torch.empty(7, dtype=torch.int64, device=device),
        "weight": torch.empty(7, device=device),
        "probability": torch.empty(7, device=device),
    }
    opcheck = torch.library.opcheck
    opcheck(OPS.sum_tree_update_.default, (nodes, index, weight, 100, True))
    opcheck(OPS.sum_tree_rebuild_.default, (nodes, 100, True))
    opcheck(OPS.sum_tree_sample.default, (nodes, seed, 7, 100, True, True))
    opcheck(OPS.sum_tree_sample.out, (nodes, seed, 100, True, True), out)
    opcheck(OPS.sum_tree_find.default, (nodes, target, 100))
    opcheck(OPS.sum_tree_summary.default, (nodes, 100))


@pytest.mark.compile
def test_compiles_without_a_graph_break(device: torch.device) -> None:
    def step(nodes: Tensor, index: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        sum_tree_update_(nodes, index, weight, capacity=100)
        drawn, _, probability = sum_tree_sample(nodes, 16, capacity=100)
        return drawn + 1, probability * sum_tree_total(nodes, capacity=100)

    nodes = sum_tree_new(100, device=device)
    index, weight = torch.tensor([3, 5], device=device), torch.tensor([1.0, 2.0], device=device)
    drawn, scaled = torch.compile(step, fullgraph=True)(nodes, index, weight)
    assert set(drawn.tolist()) == {4, 6}
    assert_close(scaled, torch.where(drawn == 4, 1.0, 2.0))
    assert sum_tree_leaves(nodes, capacity=100).sum() == 3

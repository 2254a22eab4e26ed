"""What stands between a replay and its sum tree."""

from __future__ import annotations

import math

import pytest
import torch

from machin_fast import ops
from machin_fast.data.priorities import Priorities, check_priority, first_wrong


def priorities(
    device: torch.device, capacity: int = 5, *, alpha: float = 0.6, epsilon: float = 0.01
) -> Priorities:
    return Priorities(capacity, device, alpha=alpha, epsilon=epsilon)


def assert_sound(tree: Priorities) -> None:
    """What stands above the leaves is computed from them."""
    rebuilt = tree.nodes.clone()
    ops.sum_tree_rebuild_(rebuilt, capacity=tree.capacity)
    assert torch.equal(rebuilt, tree.nodes)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_mass_is_the_formula_in_double(dtype, alpha, device):
    tree = priorities(device, alpha=alpha)
    priority = torch.tensor([0.0, 0.1, 1.0, 7.5, 1000.0], dtype=dtype, device=device)
    mass = tree.mass(priority)
    assert (mass.dtype, mass.device.type) == (torch.float32, device.type)
    expected = torch.tensor([(p + 0.01) ** alpha for p in priority.tolist()])
    torch.testing.assert_close(mass.cpu(), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("capacity", [2, 15, 16, 17, 1_000, 1_024])
def test_a_mass_too_large_for_the_sums_is_refused(capacity, device):
    largest = torch.finfo(torch.float32).max / (2 * (capacity + 16))
    tree = priorities(device, capacity, alpha=1.0)
    good = torch.tensor([1.0, largest * (1 - 1e-6)], device=device)
    tree.set(0, tree.mass(good)[1].expand(capacity).contiguous())
    assert ops.sum_tree_total(tree.nodes, capacity=capacity).isfinite()
    message = r"priority must have a mass of at most .*e\+3\d, got .*e\+3\d at position 1"
    with pytest.raises(RuntimeError, match=f"^Replay.append: {message}"):
        tree.mass(good * 1.00001)
    with pytest.raises(RuntimeError, match=r"priority must have a mass .*, got inf at"):
        tree.mass(torch.tensor([1e300], dtype=torch.float64, device=device))
    before = tree.nodes.clone()
    with pytest.raises(RuntimeError, match="weight must be in"):
        tree.update(torch.tensor([0, 1], device=device), good * 20, 0, 2)
    assert torch.equal(tree.nodes, before)
    assert tree.largest == 1


def test_the_largest_priority_so_far_is_noted(device):
    tree = priorities(device)
    row = torch.arange(3, device=device)
    assert tree.update(row, torch.tensor([5.0, 7.0, 0.5], device=device), 0, 3) == 0
    assert tree.largest == 7
    tree.update(row, torch.zeros(3, device=device), 0, 3)
    assert tree.largest == 7  # ever, not now
    tree.raise_largest(3.0)
    assert tree.largest == 7
    tree.raise_largest(9.0)
    assert tree.largest == 9


def test_rows_are_set_and_cleared_around_the_end(device):
    tree = priorities(device)
    tree.set(0, torch.arange(1.0, 6.0, device=device))
    tree.set(8, torch.tensor([10.0, 20.0, 30.0], device=device))
    assert tree.leaves.tolist() == [30, 2, 3, 10, 20]
    tree.clear(9, 12)
    assert tree.leaves.tolist() == [0, 0, 3, 10, 0]
    tree.clear(7, 7)
    tree.clear(9, 3)
    tree.set(3, torch.empty(0, device=device))
    assert tree.leaves.tolist() == [0, 0, 3, 10, 0]
    assert_sound(tree)


def test_weights_are_relative_to_the_least_likely_row(device):
    tree = priorities(device)
    mass = torch.tensor([4.0, 0.25, 1.0], device=device)
    tree.set(1, mass)  # slots 0 and 4 are never drawn, and do not count
    weight = tree.weight(mass, 0.5)
    assert weight.dtype == torch.float32
    assert weight.tolist() == [0.25, 1, 0.5]
    assert tree.weight(mass, 0.0).tolist() == [1, 1, 1]


def test_draws_are_of_slots_with_a_mass_and_a_function_of_seed_and_call(device):
    tree = priorities(device, capacity=100)
    tree.set(20, torch.rand(30, generator=torch.Generator().manual_seed(0)).to(device) + 0.1)
    slot, mass = tree.draw(1_000, 5, 7)
    assert slot.min() >= 20 and slot.max() < 50
    assert torch.equal(mass, tree.leaves[slot])
    assert torch.equal(tree.draw(1_000, 5, 7)[0], slot)
    assert not torch.equal(tree.draw(1_000, 5, 8)[0], slot)
    assert not torch.equal(tree.draw(1_000, 6, 7)[0], slot)


def test_nothing_can_be_drawn_where_all_masses_are_zero(device):
    tree = priorities(device)
    with pytest.raises(RuntimeError, match="nodes must hold a positive weight, got total 0"):
        tree.draw(1, 0, 0)


@pytest.mark.parametrize("as_array", [False, True])
def test_stale_rows_are_skipped_whatever_the_batch_is_made_of(as_array, device):
    tree = priorities(device, alpha=1.0, epsilon=0.0)
    tree.set(4, torch.ones(5, device=device))
    index = torch.tensor([2, 7, 3, 5, 7], device=device)
    priority = torch.tensor([9.0, 2.0, 9.0, 4.0, 3.0], device=device)
    if as_array:
        index, priority = index.cpu().numpy(), priority.cpu().numpy()
    assert tree.update(index, priority, 4, 9) == 2
    assert tree.leaves.tolist() == [4, 1, 3, 1, 1]
    assert tree.largest == 4
    assert_sound(tree)
    assert tree.update(index[:1], priority[:1], 4, 9) == 1
    assert tree.update(index[:0], priority[:0], 4, 9) == 0
    assert tree.largest == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-30])
def test_what_is_no_priority_is_named_with_its_place(bad, dtype, device):
    check_priority("test", torch.empty(0, dtype=dtype, device=device))
    check_priority("test", torch.tensor([0.0, -0.0, 1e30], dtype=dtype, device=device))
    wrong = torch.tensor([1.0, bad, bad], dtype=dtype, device=device)
    with pytest.raises(ValueError, match=r"^test: priority must be .*, got .* at position 1$"):
        check_priority("test", wrong)
    assert first_wrong(wrong != 1, wrong) == f"{wrong[1].item()} at position 1"

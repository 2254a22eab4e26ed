from __future__ import annotations

import pytest
import torch

from machin_fast import ops
from machin_fast.data import SumTree


def filled(device: torch.device, capacity: int = 1000, seed: int = 7) -> SumTree:
    tree = SumTree(capacity, device=device, minimum=True, seed=seed)
    weight = torch.rand(capacity, generator=torch.Generator().manual_seed(0)) + 0.01
    tree.update_(torch.arange(capacity, device=device), weight.to(device))
    return tree


def test_does_what_the_ops_do(device: torch.device) -> None:
    tree = filled(device)
    nodes = ops.sum_tree_new(1000, device=device, minimum=True)
    ops.sum_tree_update_(nodes, torch.arange(1000, device=device), tree.leaves, capacity=1000)
    assert torch.equal(tree.nodes, nodes)
    assert tree.total() == ops.sum_tree_total(nodes, capacity=1000)
    assert tree.minimum() == ops.sum_tree_minimum(nodes, capacity=1000)
    assert len(tree) == 1000
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    got = tree.sample(64, generator=generators[0])
    expected = ops.sum_tree_sample(nodes, 64, capacity=1000, generator=generators[1])
    for x, y in zip(got, expected, strict=True):
        assert torch.equal(x, y)


def test_seed_and_calls_decide_the_draws_on_every_device(device: torch.device) -> None:
    tree, twin = filled(device), filled(torch.device("cpu"))
    for stratified in (True, False, True):
        index, weight, probability = tree.sample(64, stratified=stratified)
        same = twin.sample(64, stratified=stratified)
        for x, y in zip((index, weight, probability), same, strict=True):
            assert torch.equal(x.cpu(), y)
    later = filled(device)
    later.calls = 3
    assert torch.equal(tree.sample(64)[0], later.sample(64)[0])
    assert not torch.equal(tree.sample(64)[0], later.sample(32)[0].repeat(2))


def test_torch_manual_seed_governs_a_tree_without_seed(device: torch.device) -> None:
    seeds = []
    for _ in range(2):
        torch.manual_seed(11)
        seeds.append(SumTree(4, device=device).seed)
    assert seeds[0] == seeds[1] != SumTree(4, device=device).seed


def test_one_leaf_may_be_given_as_numbers(device: torch.device) -> None:
    for dtype in (torch.float32, torch.float64):
        tree = SumTree(10, dtype=dtype, device=device)
        tree.update_(3, 2.5)
        tree.update_(4, 1)
        assert tree.total() == 3.5
        assert tree.leaves[3] == 2.5


def test_rebuild_takes_written_leaves(device: torch.device) -> None:
    tree = SumTree(100, device=device)
    tree.leaves.fill_(2)
    tree.rebuild_()
    assert tree.total() == 200


def test_out_is_written_and_returned(device: torch.device) -> None:
    tree, twin = filled(device), filled(device)
    out = tree.sample(8)
    again = tree.sample(8, out=out)
    assert again[0] is out[0]
    twin.calls = 1
    assert torch.equal(twin.sample(8)[0], out[0])


@pytest.mark.parametrize(
    ("index", "weight", "message"),
    [
        (1000, 1.0, r"index must be in \[0, 1000\), got 1000 at position 0"),
        (-1, 1.0, r"index must be in \[0, 1000\), got -1 at position 0"),
        (1, float("nan"), "weight must be in .*got nan at position 0"),
        (torch.tensor([1]), torch.tensor([1.0, 2.0]), r"weight must have shape \[1\], got \[2\]"),
        (torch.tensor([1]), torch.tensor([1.0]).double(), "weight must be float32, got float64"),
        (torch.arange(4)[::2], torch.ones(2), "index must be contiguous"),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(
    index: torch.Tensor | int, weight: torch.Tensor | float, message: str
) -> None:
    tree = filled(torch.device("cpu"))
    before = tree.nodes.clone()
    with pytest.raises(RuntimeError, match=r"sum_tree_update_: " + message):
        tree.update_(index, weight)
    assert torch.equal(tree.nodes, before)


def test_what_is_no_tensor_is_refused() -> None:
    tree = filled(torch.device("cpu"))
    with pytest.raises(TypeError, match=r"sum_tree_update_: index must be a torch.Tensor"):
        tree.update_([1, 2], torch.ones(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sum_tree_update_: weight must be a torch.Tensor"):
        tree.update_(torch.tensor([1]), 2.0)
    with pytest.raises(TypeError):
        tree.update_(1, "two")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"SumTree.sample: out must have 3 entries, got 2"):
        tree.sample(3, out=tree.sample(2))
    with pytest.raises(RuntimeError, match=r"index must be a dense tensor on the CPU"):
        tree.update_(torch.empty(1, dtype=torch.int64, device="meta"), torch.ones(1))


def test_an_empty_tree_cannot_be_sampled(device: torch.device) -> None:
    tree = SumTree(10, device=device)
    with pytest.raises(RuntimeError, match=r"nodes must hold a positive weight, got total 0"):
        tree.sample(3)
    assert tree.minimum() == float("inf")

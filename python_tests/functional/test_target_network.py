"""Polyak averaging against the equation in float64."""

from __future__ import annotations

import pytest
import torch

from machin_fast.functional import hard_update_, polyak_update_

SHAPES = [(), (1,), (7,), (5, 13)]


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.5, 0.9])
def test_targets_go_part_of_the_way(rate, device):
    target = [torch.randn(shape, device=device, requires_grad=True) for shape in SHAPES]
    source = [torch.randn(shape, device=device, requires_grad=True) for shape in SHAPES]
    expected = [
        (1 - rate) * t.detach().double() + rate * s.detach().double()
        for t, s in zip(target, source, strict=True)
    ]
    polyak_update_(iter(target), iter(source), rate)
    for t, e in zip(target, expected, strict=True):
        torch.testing.assert_close(t.detach().double(), e, atol=1e-6, rtol=0)
        assert t.is_leaf


def test_rate_one_copies_bit_for_bit():
    target, source = [torch.randn(1000)], [torch.randn(1000)]
    polyak_update_(target, source, 1.0)
    assert torch.equal(target[0], source[0])


def test_nothing_to_update_is_fine():
    polyak_update_([], [], 0.5)


@pytest.mark.parametrize(
    ("source", "rate", "message"),
    [
        ([2], 1.5, r"polyak_update_: rate must be in \[0, 1\], got 1.5"),
        ([3], 0.5, r"polyak_update_: source must have shapes \[\[2\]\], got \[\[3\]\]"),
    ],
)
def test_a_bad_argument_changes_nothing(source, rate, message):
    target = torch.zeros(2)
    with pytest.raises(ValueError, match=message):
        polyak_update_([target], [torch.ones(source)], rate)
    assert target.tolist() == [0, 0]


def test_a_hard_update_copies_parameters_and_buffers_of_any_dtype(device):
    source = [torch.randn(shape, device=device, requires_grad=True) for shape in SHAPES]
    source += [torch.tensor(2**60 + 1, device=device), torch.tensor([True, False], device=device)]
    target = [torch.zeros_like(x) for x in source]
    target[0].requires_grad_()
    hard_update_(iter(target), iter(source))
    for t, s in zip(target, source, strict=True):
        assert torch.equal(t, s)
        assert t.is_leaf and t.data_ptr() != s.data_ptr()
    hard_update_([], [])


def test_a_hard_update_of_other_shapes_changes_nothing():
    target = [torch.zeros(2), torch.zeros(3)]
    for source in ([torch.ones(2)], [torch.ones(2), torch.ones(1)]):
        text = r"hard_update_: source must have shapes \[\[2\], \[3\]\], got"
        with pytest.raises(ValueError, match=text):
            hard_update_(target, source)
    assert not any(x.any() for x in target)

"""Tensors as one vector, and back."""

from __future__ import annotations

import pytest
import torch

from machin_fast.functional import flatten_tensors, hard_update_, unflatten_tensors

SHAPES = [(), (0,), (1,), (7,), (5, 13)]


def test_there_and_back(device):
    tensors = [torch.randn(shape, device=device) for shape in SHAPES]
    tensors[-1] = tensors[-1].t()  # with gaps
    vector = flatten_tensors(iter(tensors))
    assert vector.tolist() == [x for each in tensors for x in each.flatten().tolist()]
    back = unflatten_tensors(vector, iter(tensors))
    assert all(torch.equal(x, y) for x, y in zip(back, tensors, strict=True))
    fresh = [torch.zeros_like(x, requires_grad=True) for x in tensors]
    hard_update_(fresh, unflatten_tensors(vector, fresh))
    assert torch.equal(flatten_tensors(fresh), vector)
    vector.zero_()
    assert fresh[-1].all()  # a copy


def test_gradients_pass():
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    assert torch.autograd.gradcheck(lambda *x: flatten_tensors(x), tensors)
    vector = flatten_tensors(tensors).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: unflatten_tensors(x, tensors)[3:], vector)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"flatten_tensors: tensors must not be empty, got none"):
        flatten_tensors([])
    for wrong in (torch.zeros(2), torch.zeros(3, 1)):
        text = (
            rf"unflatten_tensors: vector must have shape \[3\], got \[{str([*wrong.shape])[1:-1]}\]"
        )
        with pytest.raises(ValueError, match=text):
            unflatten_tensors(wrong, [torch.zeros(3)])

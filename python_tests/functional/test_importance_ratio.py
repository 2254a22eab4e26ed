"""Ratios of policies."""

from __future__ import annotations

import math

import pytest
import torch

from machin_fast.functional import importance_ratio


@pytest.mark.parametrize("shape", [(0,), (1,), (7, 1), (5, 13)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_the_formula(shape, dtype, device):
    new, old = torch.randn(2, *shape, dtype=dtype).to(device)
    got = importance_ratio(new, old)
    assert (got.shape, got.dtype) == (torch.Size(shape), dtype)
    for ratio, n, o in zip(*(x.flatten().tolist() for x in (got, new, old)), strict=True):
        assert math.isclose(ratio, math.exp(n - o), rel_tol=1e-5)


def test_gradient():
    new, old = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(importance_ratio, (new, old))


def test_an_action_that_was_all_but_impossible_stays_finite():
    new = torch.tensor([0.0, -200.0], requires_grad=True)
    ratio = importance_ratio(new, torch.tensor([-200.0, 0.0]))
    torch.testing.assert_close(ratio, torch.tensor([math.exp(40), 0.0]))
    ratio.sum().backward()
    assert new.grad.tolist() == [0, 0]


def test_nothing_is_broadcast():
    with pytest.raises(
        ValueError, match=r"importance_ratio: old_log_prob must have shape \[4\], got \[4, 1\]"
    ):
        importance_ratio(torch.zeros(4), torch.zeros(4, 1))

"""Normalised advantages against Python's own statistics."""

from __future__ import annotations

import itertools
import statistics

import pytest
import torch
from torch.testing import assert_close

from machin_fast.functional import normalize_advantage


def reference(advantage, mask):
    rows = advantage.flatten().tolist()
    kept = list(itertools.compress(rows, mask.flatten().tolist()))
    if not kept:
        return torch.zeros_like(advantage)
    mean = statistics.fmean(kept)
    std = statistics.stdev(kept) if len(kept) > 1 else 0.0
    result = torch.tensor([(x - mean) / (std + 1e-6) for x in rows], dtype=torch.float64)
    return result.view(advantage.shape).masked_fill(~mask.cpu(), 0)


@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (7, 1), (65,), (5, 13)])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_matches_the_formula(shape, dtype, atol, device):
    advantage = 3 + 5 * torch.randn(shape, dtype=dtype).to(device)
    for mask in (torch.ones_like(advantage).bool(), advantage < 3, advantage > 1e9):
        want = reference(advantage, mask).to(dtype)
        for filled in (advantage, advantage.masked_fill(~mask, torch.nan)):
            got = normalize_advantage(filled, mask)
            assert_close(got.cpu(), want.cpu(), atol=atol, rtol=0)
    everything = torch.ones_like(advantage).bool()
    whole, masked = normalize_advantage(advantage), normalize_advantage(advantage, everything)
    assert_close(whole, masked, atol=atol, rtol=0)


def test_one_step_and_equal_steps_are_no_reason_to_learn(device):
    # Machin: NaN, and so are all parameters after it (its issue 26).
    assert normalize_advantage(torch.tensor([[7.0]], device=device)).tolist() == [[0]]
    assert normalize_advantage(torch.full((4,), 7.0, device=device)).tolist() == [0] * 4


def test_carries_no_gradient():
    assert not normalize_advantage(torch.randn(4, requires_grad=True)).requires_grad


def test_a_wrong_mask_is_refused():
    with pytest.raises(
        ValueError, match=r"normalize_advantage: mask must have shape \[4\], got \[4, 1\]"
    ):
        normalize_advantage(torch.zeros(4), torch.ones(4, 1, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"normalize_advantage: mask must be bool, got torch.int64"):
        normalize_advantage(torch.zeros(4), torch.ones(4, dtype=torch.int64))

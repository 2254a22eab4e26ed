"""Means over steps."""

from __future__ import annotations

import torch

from functional.losses import MaskedLossTests
from machin_fast.functional import masked_mean


class TestMaskedMean(MaskedLossTests):
    op, names = "masked_mean", ("x",)

    def call(self, mask, x):
        return masked_mean(x, mask)

    def of_step(self, x):
        return x


def test_by_hand(device):
    x = torch.tensor([[1.0, torch.nan], [3.0, torch.inf]], device=device)
    assert masked_mean(x, torch.tensor([[True, False]] * 2, device=device)).item() == 2
    assert masked_mean(x[:, :1]).item() == 2


def test_a_large_count_keeps_the_dtype():
    x = torch.ones(1000, dtype=torch.float32)
    mean = masked_mean(x, x > 0)
    assert mean.dtype == torch.float32
    assert mean.item() == 1

"""Importance weights against their formula."""

from __future__ import annotations

import pytest
import torch

from machin_fast.functional import importance_weight


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_weights_match_the_formula(size, beta, device):
    priority = torch.rand(size, dtype=torch.float64, device=device) + 1e-3
    probability = priority / priority.sum()
    expected = [(size * p) ** -beta for p in probability.tolist()]
    weight = importance_weight(probability, size, beta)
    torch.testing.assert_close(weight.tolist(), expected, atol=0, rtol=1e-12)

    normalised = importance_weight(probability, size, beta, probability.min())
    largest = max(expected)
    torch.testing.assert_close(
        normalised.tolist(), [w / largest for w in expected], atol=0, rtol=1e-12
    )
    assert normalised.max() == 1


def test_uniform_draws_weigh_one():
    assert importance_weight(torch.full((5,), 1 / 8), 8, 0.4).tolist() == [1.0] * 5


def test_the_minimum_may_be_a_number_and_keeps_the_dtype():
    probability = torch.tensor([0.5, 0.25])
    weight = importance_weight(probability, 4, 1.0, 0.125)
    assert weight.dtype == torch.float32
    assert weight.tolist() == [0.25, 0.5]
    in_double = torch.tensor(0.125, dtype=torch.float64)
    assert importance_weight(probability, 4, 1.0, in_double).dtype == torch.float32


@pytest.mark.parametrize(
    ("size", "beta", "message"),
    [
        (0, 0.4, "importance_weight: size must be at least 1, got 0"),
        (1, 1.5, r"importance_weight: beta must be in \[0, 1\], got 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(size, beta, message):
    with pytest.raises(ValueError, match=message):
        importance_weight(torch.ones(1), size, beta)

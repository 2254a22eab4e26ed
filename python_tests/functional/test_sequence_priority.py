"""Priorities of sequences against their formula."""

from __future__ import annotations

import pytest
import torch

from machin_fast.functional import sequence_priority


def reference(error, mask, eta):
    result = []
    for column, real in zip(error.t().tolist(), mask.t().tolist(), strict=True):
        sizes = [abs(e) for e, r in zip(column, real, strict=True) if r]
        result.append(eta * max(sizes) + (1 - eta) * sum(sizes) / len(sizes) if sizes else 0.0)
    return result


@pytest.mark.parametrize("eta", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 7), (64, 65), (60, 8)])
def test_priorities_match_the_formula(steps, batch, eta, device):
    error = torch.randn(steps, batch, dtype=torch.float64, device=device)
    mask = torch.rand(steps, batch, device=device) < 0.7
    expected = reference(error, mask, eta)
    # What is masked may be anything.
    poisoned = error.masked_fill(~mask, torch.nan)
    for masked in (error, poisoned):
        got = sequence_priority(masked, mask, eta).tolist()
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    everything = torch.ones_like(mask)
    expected = reference(error, everything, eta)
    for got in (sequence_priority(error, None, eta), sequence_priority(error, everything, eta)):
        torch.testing.assert_close(got.tolist(), expected, rtol=0, atol=1e-12)


def test_the_dtype_is_kept_and_sequences_without_steps_have_none():
    error = torch.ones(4, 2)
    mask = torch.tensor([True, False]).expand(4, 2)
    priority = sequence_priority(error, mask)
    assert priority.dtype == torch.float32
    assert priority.tolist() == [1, 0]
    assert sequence_priority(torch.ones(0, 3)).tolist() == [0, 0, 0]
    assert sequence_priority(torch.ones(3, 0)).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (torch.ones(3),),
            ValueError,
            r"sequence_priority: error must be \[steps, batch\], got \[3\]",
        ),
        (
            (torch.ones(3, 2), torch.ones(3, 1, dtype=torch.bool)),
            ValueError,
            r"sequence_priority: mask must have shape \[3, 2\], got \[3, 1\]",
        ),
        (
            (torch.ones(3, 2), torch.ones(3, 2)),
            TypeError,
            "sequence_priority: mask must be bool, got torch.float32",
        ),
        (
            (torch.ones(3, 2), None, 1.5),
            ValueError,
            r"sequence_priority: eta must be in \[0, 1\], got 1.5",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sequence_priority(*arguments)

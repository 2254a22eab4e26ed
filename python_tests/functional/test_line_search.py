"""Line search on a parabola."""

from __future__ import annotations

import math

import pytest
import torch

from machin_fast.functional import line_search


def search(loss_at, kl_at=lambda part: 0.0, expected=1.0, **options):
    tried = []

    def evaluate(part):
        tried.append(part)
        return torch.tensor(loss_at(part)), torch.tensor(kl_at(part))

    part = line_search(evaluate, torch.tensor(0.0), torch.tensor(expected), 0.01, **options)
    return part, tried


def test_a_good_step_is_taken_whole():
    assert search(lambda part: -part) == (1.0, [1.0])


def test_it_is_halved_until_the_loss_falls():
    # The loss is lowest at 0.2, and above 0 from 0.4 on.
    assert search(lambda part: (part - 0.2) ** 2 - 0.04) == (0.25, [1.0, 0.5, 0.25])


def test_the_divergence_counts():
    # machina does not look.
    assert search(lambda part: -part, lambda part: 0.05 * part**2)[0] == 0.25


def test_part_of_the_promised_gain_must_come_true():
    # It gains 0.3 of a whole step, and of each half one as much of its own.
    assert search(lambda part: -0.3 * part, accept_ratio=0.5)[0] == 0
    assert search(lambda part: -0.3 * part, accept_ratio=0.25)[0] == 1
    # A gain that is expected to be below 0 is no leave to lose.
    assert search(lambda part: 0.01 * part, expected=-1.0)[0] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_never_taken(bad):
    assert search(lambda part: bad, backtracks=3) == (0.0, [1.0, 0.5, 0.25])
    assert search(lambda part: -part, lambda part: bad)[0] == 0
    assert search(lambda part: bad if part > 0.3 else -part)[0] == 0.25


def test_a_radius_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"line_search: max_kl must be above 0, got 0"):
        line_search(lambda part: (torch.zeros(()),) * 2, torch.zeros(()), torch.ones(()), 0)

"""Hysteretic DDPG."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

from experience import parameters, transitions
from machin_fast.algorithms import DDPG, HDDPG
from off_policy import OffPolicyTests, check, make, reference


class TestContract(OffPolicyTests):
    frame = HDDPG


@pytest.mark.parametrize(("up", "down"), [(1.0, 0.1), (0.3, 0.9), (0.5, 0.0)])
def test_good_news_and_bad_news_count_differently(up: float, down: float) -> None:
    hddpg = make(HDDPG, q_increase_rate=up, q_decrease_rate=down)
    batch = transitions(16)

    def goal(q: float, y: float) -> float:
        return q + (y - q) * (up if y > q else down)

    want = reference(hddpg, batch, goal=goal)
    check(hddpg, want, hddpg.learn(batch))


def test_by_default_it_is_ddpg() -> None:
    one, other = make(HDDPG), make(DDPG)
    one.learn(transitions(8))
    other.learn(transitions(8))
    assert_close(parameters(*one.top_models), parameters(*other.top_models), atol=0, rtol=0)


@pytest.mark.parametrize("name", ["q_increase_rate", "q_decrease_rate"])
def test_rates_out_of_their_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"HDDPG: {name} must be at least 0, got -1"):
        make(HDDPG, **{name: -1.0})

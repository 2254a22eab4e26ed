from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import oracles
from machin_fast.ops import gae, vtrace
from ops.rollouts import EstimatorTests, rollout


class TestVtrace(EstimatorTests):
    op = staticmethod(vtrace)
    oracle = staticmethod(oracles.vtrace)
    arguments = (
        "behavior_log_prob", "target_log_prob", "reward", "value", "next_value",
        "terminated", "truncated",
    )  # fmt: skip
    # All different, so that none is taken for another.
    parameters = {
        "gamma": 0.97, "lam": 0.9, "rho_clip": 1.5, "c_clip": 0.75, "advantage_rho_clip": 2.0,
    }  # fmt: skip
    outputs = ("advantage", "value_target")

    def test_clips_default_to_one(self, device: torch.device) -> None:
        data = rollout(20, 3, device=device)
        one = dict.fromkeys(("lam", "rho_clip", "c_clip", "advantage_rho_clip"), 1.0)
        got = vtrace(*self.inputs(data), gamma=0.9)
        assert_close(got, self.call(data, gamma=0.9, **one), rtol=0, atol=0)

    def test_on_policy_is_gae_with_lambda_one(self, device: torch.device) -> None:
        data = rollout(40, 3, device=device)
        data = replace(data, target_log_prob=data.behavior_log_prob)
        got = vtrace(*self.inputs(data), gamma=0.9, lam=0.8)
        want = gae(*self.inputs(data)[2:], gamma=0.9, lam=0.8)
        assert_close(got[1], want[1])
        assert_close(vtrace(*self.inputs(data), gamma=0.9)[0], gae(
            *self.inputs(data)[2:], gamma=0.9, lam=1.0)[0])  # fmt: skip

    def test_the_advantage_bootstraps_from_the_next_target(self, device: torch.device) -> None:
        # Section 4.2 with rho = 1: r + gamma * v_{s+1} - V, where next_value is the next value.
        data = rollout(30, 3, device=device, ends=(0.0, 0.0))
        same = data.behavior_log_prob
        next_value = torch.cat([data.value[1:], data.next_value[-1:]])
        data = replace(data, target_log_prob=same + 1, next_value=next_value)
        advantage, target = vtrace(*self.inputs(data), gamma=0.9)
        following = torch.cat([target[1:], next_value[-1:]])
        assert_close(advantage, data.reward + 0.9 * following - data.value)

    def test_one_step_by_hand(self, device: torch.device) -> None:
        # delta = 2 + 0.5 * 4 - 3 = 1, pi / mu = 4.
        numbers = [torch.full((1, 1), x, device=device) for x in (-4.0, -4.0, 2.0, 3.0, 4.0)]
        numbers[1] += torch.tensor(4.0).log().item()
        never = torch.zeros(1, 1, dtype=torch.bool, device=device)
        advantage, target = vtrace(
            *numbers, never, never, gamma=0.5, rho_clip=2.0, advantage_rho_clip=8.0
        )
        assert_close(advantage.item(), 4.0, rtol=1e-6, atol=0)
        assert target.item() == 5

    @pytest.mark.parametrize("name", ["rho_clip", "c_clip", "advantage_rho_clip"])
    def test_a_clip_may_be_infinite_but_not_negative(self, name: str) -> None:
        data = rollout(10, 3)
        self.check(data, **{name: float("inf")})
        self.check(data, **{name: 0.0})
        for bad in (-1.0, float("nan")):
            with self.complaint(f"{name} must not be negative, got {bad:g}"):
                self.call(data, **{name: bad})

from __future__ import annotations

from dataclasses import replace

import torch
from torch.testing import assert_close

import oracles
from machin_fast.ops import gae, retrace
from ops.rollouts import EstimatorTests, rollout


class TestRetrace(EstimatorTests):
    op = staticmethod(retrace)
    oracle = staticmethod(oracles.retrace)
    arguments = (
        "behavior_log_prob", "target_log_prob", "reward", "value", "next_value",
        "terminated", "truncated",
    )  # fmt: skip
    parameters = {"gamma": 0.97, "lam": 0.9}
    outputs = ("target",)

    def test_the_ratio_of_the_next_step_weighs_its_correction(self, device: torch.device) -> None:
        # gamma = 1/2; delta is 1 + 2 - 3 = 0, then 2 + 4 - 2 = 4, then 3 - 1 = 2 at the end.
        reward, value, next_value, ratio = torch.tensor(
            [[1.0, 2, 3], [3, 2, 1], [4, 8, 99], [9, 0.25, 4]], device=device
        )
        never, last = torch.zeros(3).bool().to(device), torch.arange(3, device=device) == 2
        got = retrace(
            torch.zeros_like(ratio), ratio.log(), reward, value, next_value, last, never, gamma=0.5
        )
        # 2 + 4 + 1/2 * min(1, 4) * 2, and 3 + 0 + 1/2 * 1/4 * (7 - 2)
        assert_close(got, torch.tensor([3.625, 7, 3], device=device))

    def test_lam_defaults_to_one(self, device: torch.device) -> None:
        data = rollout(20, 3, device=device)
        assert torch.equal(
            retrace(*self.inputs(data), gamma=0.9), self.call(data, gamma=0.9, lam=1.0)[0]
        )

    def test_on_policy_is_the_value_target_of_gae(self, device: torch.device) -> None:
        data = rollout(40, 3, device=device)
        data = replace(data, target_log_prob=data.behavior_log_prob)
        got = retrace(*self.inputs(data), gamma=0.9, lam=0.8)
        assert_close(got, gae(*self.inputs(data)[2:], gamma=0.9, lam=0.8)[1])

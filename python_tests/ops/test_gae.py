from __future__ import annotations

import torch
from torch.testing import assert_close

import oracles
from machin_fast.ops import gae
from ops.rollouts import EstimatorTests, rollout


class TestGae(EstimatorTests):
    op = staticmethod(gae)
    oracle = staticmethod(oracles.gae)
    arguments = ("reward", "value", "next_value", "terminated", "truncated")
    parameters = {"gamma": 0.97, "lam": 0.9}
    outputs = ("advantage", "value_target")

    def test_truncation_keeps_the_bootstrap_and_cuts_the_trace(self, device: torch.device) -> None:
        # gamma = lam = 1/2; the episode is cut after the second step, the rollout after the third.
        steps = torch.tensor([[1.0, 4, 5], [2, 5, 8], [3, 6, 8]], device=device)
        reward, value, next_value = steps.t().unsqueeze(-1)
        never = torch.zeros_like(reward, dtype=torch.bool)
        second = never.clone()
        second[1] = True

        def estimate(terminated: torch.Tensor, truncated: torch.Tensor) -> list[list[float]]:
            results = gae(reward, value, next_value, terminated, truncated, gamma=0.5, lam=0.5)
            return [x[:, 0].tolist() for x in results]

        # delta: 1 + 2.5 - 4, 2 + 4 - 5, 3 + 4 - 6
        assert estimate(never, second) == [[-0.25, 1, 1], [3.75, 6, 7]]
        # a terminated second step has no next value: 2 - 5
        assert estimate(second, never) == [[-1.25, -3, 1], [2.75, 2, 7]]
        assert estimate(second, second) == estimate(second, never)

    def test_lam_zero_gives_temporal_differences(self, device: torch.device) -> None:
        data = rollout(30, 4, device=device, ends=(0.0, 0.2))
        advantage, _ = gae(*self.inputs(data), gamma=0.9, lam=0.0)
        assert_close(advantage, data.reward + 0.9 * data.next_value - data.value)

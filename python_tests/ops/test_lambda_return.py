from __future__ import annotations

import torch
from torch.testing import assert_close

import oracles
from machin_fast.ops import discounted_return, gae, lambda_return
from ops.rollouts import DifferentiableEstimatorTests, rollout


class TestLambdaReturn(DifferentiableEstimatorTests):
    op = staticmethod(lambda_return)
    oracle = staticmethod(oracles.lambda_return)
    arguments = ("reward", "next_value", "terminated", "truncated")
    parameters = {"gamma": 0.97, "lam": 0.9}
    outputs = ("result",)

    def test_a_cut_bootstraps_in_full(self, device: torch.device) -> None:
        # gamma = lam = 1/2: r + V/4 + G/4 within an episode, r + V/2 at a cut.
        reward = torch.tensor([1.0, 2, 4], device=device)
        value = torch.tensor([16.0, 32, 64], device=device)
        never, second = torch.zeros(3).bool().to(device), torch.arange(3, device=device) == 1
        for terminated, truncated, want in (
            (never, never, [9.75, 19, 36]),
            (never, second, [9.5, 18, 36]),
            (second, never, [5.5, 2, 36]),
        ):
            got = lambda_return(reward, value, terminated, truncated, gamma=0.5, lam=0.5)
            assert got.tolist() == want

    def test_lam_one_is_the_discounted_return(self, device: torch.device) -> None:
        inputs = self.inputs(rollout(50, 3, device=device))
        assert_close(
            lambda_return(*inputs, gamma=0.9, lam=1.0), discounted_return(*inputs, gamma=0.9)
        )

    def test_is_the_value_target_of_gae(self, device: torch.device) -> None:
        data = rollout(50, 3, device=device, ends=(0.0, 0.1))
        value = torch.cat([data.value[:1], data.next_value[:-1]])  # the same estimates, shifted
        value[1:][data.truncated[:-1]] = 3.0  # but after a cut another episode begins
        _, target = gae(data.reward, value, *self.inputs(data)[1:], gamma=0.9, lam=0.8)
        assert_close(target, lambda_return(*self.inputs(data), gamma=0.9, lam=0.8))

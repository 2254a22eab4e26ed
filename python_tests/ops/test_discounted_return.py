from __future__ import annotations

import torch

import oracles
from machin_fast.ops import discounted_return
from ops.rollouts import DifferentiableEstimatorTests


class DiscountedReturnTests(DifferentiableEstimatorTests):
    op = staticmethod(discounted_return)
    oracle = staticmethod(oracles.discounted_return)
    parameters = {"gamma": 0.9}
    outputs = ("result",)
    fractions = ("gamma",)


class TestDiscountedReturn(DiscountedReturnTests):
    arguments = ("reward", "next_value", "terminated", "truncated")

    def test_a_cut_adds_its_next_value_and_termination_does_not(self, device: torch.device) -> None:
        reward = torch.tensor([1.0, 2, 4, 8], device=device)
        value = torch.tensor([16.0, 32, 64, 128], device=device)
        never, second = torch.zeros(4).bool().to(device), torch.arange(4, device=device) == 1
        for terminated, truncated, want in (
            (never, never, [12, 22, 40, 72]),
            (never, second, [10, 18, 40, 72]),
            (second, never, [2, 2, 40, 72]),
        ):
            got = discounted_return(reward, value, terminated, truncated, gamma=0.5)
            assert got.tolist() == want


class TestDiscountedReturnWithoutValues(DiscountedReturnTests):
    arguments = ("reward", None, "terminated", "truncated")

    def test_cuts_add_nothing(self, device: torch.device) -> None:
        reward = torch.tensor([1.0, 2, 4, 8], device=device)
        never, second = torch.zeros(4).bool().to(device), torch.arange(4, device=device) == 1
        for truncated, want in ((never, [4, 6, 8, 8]), (second, [2, 2, 8, 8])):
            assert discounted_return(reward, None, never, truncated, gamma=0.5).tolist() == want

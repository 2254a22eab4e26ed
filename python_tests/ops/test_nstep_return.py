from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import oracles
from machin_fast.ops import discounted_return, nstep_return
from ops.rollouts import EstimatorTests, awkward_bounds, rollout


class TestNstepReturn(EstimatorTests):
    op = staticmethod(nstep_return)
    oracle = staticmethod(oracles.nstep_return)
    arguments = ("reward", "terminated", "truncated")
    parameters = {"gamma": 0.97, "n": 3}
    outputs = ("reward_sum", "discount", "last_row")
    fractions = ("gamma",)

    def test_windows_end_with_the_episode(self, device: torch.device) -> None:
        reward = torch.tensor([1.0, 2, 4, 8, 16], device=device)
        never, third = torch.zeros(5).bool().to(device), torch.arange(5, device=device) == 2
        for terminated, truncated, discount in (
            (never, third, [0.25, 0.25, 0.5, 0.25, 0.5]),
            (third, never, [0.25, 0, 0, 0.25, 0.5]),
        ):
            got = nstep_return(reward, terminated, truncated, gamma=0.5, n=2)
            assert [x.tolist() for x in got] == [[2, 4, 4, 16, 16], discount, [1, 2, 2, 4, 4]]

    def test_rows_count_over_steps_and_envs(self, device: torch.device) -> None:
        data = rollout(4, 3, device=device, ends=(0.0, 0.0))
        _, _, last_row = self.call(data, n=3)
        assert last_row.tolist() == [[6, 7, 8], [9, 10, 11], [9, 10, 11], [9, 10, 11]]

    @pytest.mark.parametrize("n", [1, 2, 64, 2**40])
    def test_any_n_matches_the_equation(self, n: int, device: torch.device) -> None:
        for data in (
            rollout(70, 9, device=device),
            rollout(300, device=device),
            rollout(300, device=device, bounds=awkward_bounds(300)),
        ):
            self.check(data, n=n)

    def test_n_may_be_the_largest_integer(self, device: torch.device) -> None:
        self.check(rollout(300, device=device), n=2**63 - 1)

    def test_reaching_to_the_end_is_the_discounted_return(self, device: torch.device) -> None:
        data = rollout(50, 4, device=device)
        reward_sum, discount, last_row = self.call(data, gamma=0.9, n=50)
        bootstrap = data.next_value.flatten()[last_row].nan_to_num(0)
        want = discounted_return(
            data.reward, data.next_value, data.terminated, data.truncated, gamma=0.9
        )
        assert_close(reward_sum + discount * bootstrap, want)

    @pytest.mark.parametrize("n", [0, -1])
    def test_n_must_be_positive(self, n: int) -> None:
        with self.complaint(f"n must be at least 1, got {n}"):
            self.call(rollout(4, 3), n=n)

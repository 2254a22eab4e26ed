"""Targets against the equations, in float64 and one entry at a time."""

from __future__ import annotations

import pytest
import torch

from machin_fast.functional import double_q_value, td_target


@pytest.mark.parametrize(("batch", "actions"), [(0, 3), (1, 1), (7, 2), (65, 18)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_network_chooses_and_the_other_judges(batch, actions, dtype, device):
    next_q = torch.randn(batch, actions, dtype=dtype, device=device)
    next_q_target = torch.randn(batch, actions, dtype=dtype, device=device)
    value = double_q_value(next_q, next_q_target)
    assert value.shape == (batch, 1)
    assert value.dtype == dtype
    for i in range(batch):
        chosen = max(range(actions), key=lambda a: next_q[i, a].item())
        assert value[i, 0] == next_q_target[i, chosen]


def test_double_q_value_by_hand():
    next_q = torch.tensor([[1.0, 2.0], [5.0, -1.0]])
    next_q_target = torch.tensor([[30.0, 10.0], [20.0, 40.0]])
    assert double_q_value(next_q, next_q_target).tolist() == [[10.0], [20.0]]


@pytest.mark.parametrize(
    ("next_q", "next_q_target", "message"),
    [
        ([3], [3], r"double_q_value: next_q must be \[batch, actions\], got \[3\]"),
        ([2, 3], [2, 1], r"double_q_value: next_q_target must have shape \[2, 3\], got \[2, 1\]"),
    ],
)
def test_double_q_value_refuses_other_shapes(next_q, next_q_target, message):
    with pytest.raises(ValueError, match=message):
        double_q_value(torch.zeros(next_q), torch.zeros(next_q_target))


@pytest.mark.parametrize("shape", [(0,), (1,), (7, 1), (5, 13)])
def test_td_target_matches_the_equation(shape, device):
    reward, discount, next_value = torch.randn(3, *shape, device=device)
    target = td_target(reward, discount, next_value)
    expected = reward.double() + discount.double() * next_value.double()
    torch.testing.assert_close(target.double(), expected, atol=1e-6, rtol=0)
    same = td_target(reward, 0.5, next_value)
    assert torch.equal(same, td_target(reward, torch.full_like(reward, 0.5), next_value))


def test_td_target_never_broadcasts():
    flat, column = torch.zeros(4), torch.zeros(4, 1)
    with pytest.raises(
        ValueError, match=r"td_target: next_value must have shape \[4\], got \[4, 1\]"
    ):
        td_target(flat, flat, column)
    with pytest.raises(
        ValueError, match=r"td_target: discount must have shape \[4, 1\], got \[4\]"
    ):
        td_target(column, flat, column)

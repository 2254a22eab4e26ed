"""Targets against the equations, in float64 and one entry at a time."""

from __future__ import annotations

import pytest
import torch

from machin_fast.functional import (
    double_q_value,
    greedy_action,
    hysteretic_target,
    max_q_value,
    min_q_value,
    td_target,
)


def q_and_mask(batch, actions, dtype=torch.float64, device="cpu"):
    """Values, and which actions there are: at least one in each row."""
    q = torch.randn(batch, actions, dtype=dtype).to(device)
    mask = torch.rand(batch, actions, device=device) < 0.5
    mask[:, 0] |= ~mask.any(1)
    return q, mask


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


@pytest.mark.parametrize(("batch", "actions"), [(0, 3), (1, 1), (7, 2), (65, 18)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masked_values_match_a_search(batch, actions, dtype, device):
    q, mask = q_and_mask(batch, actions, dtype, device)
    judge = torch.randn(batch, actions, dtype=dtype, device=device)
    # What cannot be done may be anything.
    for filled in (q, q.masked_fill(~mask, torch.nan), q.masked_fill(~mask, torch.inf)):
        action = greedy_action(filled, mask)
        value = max_q_value(filled, mask)
        double = double_q_value(filled, judge, mask)
        assert action.shape == value.shape == double.shape == (batch, 1)
        assert (action.dtype, value.dtype, double.dtype) == (torch.int64, dtype, dtype)
        for i in range(batch):
            allowed = [a for a in range(actions) if mask[i, a]]
            best = max(allowed, key=lambda a, i=i: q[i, a].item())
            assert action[i, 0] == best
            assert value[i, 0] == q[i, best]
            assert double[i, 0] == judge[i, best]
    everything = torch.ones_like(mask)
    assert torch.equal(greedy_action(q), greedy_action(q, everything))
    assert torch.equal(max_q_value(q), max_q_value(q, everything))


def test_a_row_without_actions_is_worth_nothing(device):
    q = torch.tensor([[1.0, 2.0], [3.0, torch.nan]], device=device, requires_grad=True)
    mask = torch.tensor([[True, True], [False, False]], device=device)
    assert greedy_action(q, mask).tolist() == [[1], [0]]
    for value in (max_q_value(q, mask), double_q_value(q, q, mask)):
        assert value.tolist() == [[2], [0]]
        (gradient,) = torch.autograd.grad(value.sum(), q)
        assert gradient.tolist() == [[0, 1], [0, 0]]


def test_gradients_of_values():
    q, mask = q_and_mask(7, 5)
    q.requires_grad_()
    other = torch.randn_like(q, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: max_q_value(x, mask), (q,))
    assert torch.autograd.gradcheck(lambda x: double_q_value(q, x, mask), (other,))
    assert torch.autograd.gradcheck(min_q_value, (q, other, torch.randn_like(q)))


@pytest.mark.parametrize("shape", [(0,), (1,), (7, 1), (65, 1)])
@pytest.mark.parametrize("critics", [1, 2, 5])
def test_the_least_critic_counts(shape, critics, device):
    q = torch.randn(critics, *shape, device=device)
    assert torch.equal(min_q_value(*q), q.amin(0))


@pytest.mark.parametrize("shape", [(0,), (1,), (7, 1), (5, 13)])
@pytest.mark.parametrize(("increase", "decrease"), [(1.0, 1.0), (1.0, 0.25), (0.5, 0.0)])
def test_hysteretic_targets_match_the_equation(shape, increase, decrease, device):
    value, target = torch.randn(2, *shape, device=device, dtype=torch.float64)
    got = hysteretic_target(value.requires_grad_(), target, increase, decrease)
    assert not got.requires_grad
    for g, v, t in zip(*(x.flatten().tolist() for x in (got, value, target)), strict=True):
        delta = t - v
        want = v + delta * (increase if delta > 0 else decrease)
        assert abs(g - want) < 1e-12


def test_values_refuse_other_shapes():
    q, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    for function in (greedy_action, max_q_value):
        text = rf"{function.__name__}: \w+ must be \[batch, actions\], got \[3\]"
        with pytest.raises(ValueError, match=text):
            function(q[0])
    for function in (greedy_action, max_q_value, lambda q, m: double_q_value(q, q, m)):
        text = r"action_mask must have shape \[2, 3\], got \[2, 1\]"
        with pytest.raises(ValueError, match=text):
            function(q, mask[:, :1])
        with pytest.raises(TypeError, match=r"action_mask must be bool, got torch.float32"):
            function(q, q)
    with pytest.raises(
        ValueError, match=r"min_q_value: others\[1\] must have shape \[2, 3\], got \[2, 1\]"
    ):
        min_q_value(q, q, q[:, :1])
    with pytest.raises(
        ValueError, match=r"hysteretic_target: target must have shape \[2, 3\], got \[3\]"
    ):
        hysteretic_target(q, q[0], 1, 1)


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

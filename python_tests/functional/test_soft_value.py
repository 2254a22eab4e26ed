"""Soft values against their formulas."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.testing import assert_close

from machin_fast.functional import expected_soft_q_value, max_q_value, soft_q_value

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(0, 1), (1,), (7, 1), (5, 13)])
def test_matches_the_formula(shape, dtype, device):
    q, log_prob = torch.randn(2, *shape, dtype=dtype).to(device)
    want = q.double() - 0.3 * log_prob.double()
    for alpha in (0.3, torch.tensor(0.3), torch.tensor([0.3], dtype=torch.float64)):
        got = soft_q_value(q, log_prob, alpha)
        assert (got.shape, got.dtype) == (q.shape, dtype)
        assert_close(got.double(), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (4,), (7, 2), (3, 65, 6)])
def test_the_expectation_matches_a_sum_over_actions(shape, dtype, device):
    q, logits = torch.randn(2, *shape, dtype=dtype)
    log_prob = logits.log_softmax(-1)
    got = expected_soft_q_value(q.to(device), log_prob.to(device), 0.3)
    assert (got.shape, got.dtype) == ((*shape[:-1], 1), dtype)
    rows = zip(*(x.reshape(-1, shape[-1]).tolist() for x in (q, log_prob)), strict=True)
    want = [
        math.fsum(math.exp(lp) * (v - 0.3 * lp) for v, lp in zip(*row, strict=True)) for row in rows
    ]
    assert_close(got.flatten().tolist(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_without_temperature_the_greedy_policy_has_the_value_of_q_learning(device):
    q = torch.randn(9, 4, device=device)
    greedy = torch.zeros_like(q).scatter_(1, q.argmax(1, keepdim=True), 1).log()
    assert_close(expected_soft_q_value(q, greedy, 0.0), max_q_value(q))


def test_the_best_policy_is_the_softmax_of_the_values(device):
    # Its value is alpha * logsumexp(q / alpha), and its gradient does not push the policy.
    q = torch.randn(9, 4, dtype=torch.float64, device=device)
    logits = (q / 0.3).requires_grad_()
    value = expected_soft_q_value(q, logits.log_softmax(1), 0.3)
    assert_close(value, 0.3 * (q / 0.3).logsumexp(1, keepdim=True))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("alpha", [0.2, 1e6])
def test_an_impossible_action_changes_nothing(alpha, device):
    q = torch.randn(5, 3, device=device, requires_grad=True)
    log_prob = torch.randn(5, 3, device=device).log_softmax(1).requires_grad_()
    want = expected_soft_q_value(q, log_prob, alpha)
    with_another = torch.nn.functional.pad(log_prob, (0, 1), value=-torch.inf)
    got = expected_soft_q_value(torch.nn.functional.pad(q, (0, 1), value=3.0), with_another, alpha)
    assert_close(got, want)
    for leaf in (q, log_prob):
        assert_close(*(torch.autograd.grad(x.sum(), leaf, retain_graph=True) for x in (got, want)))


def test_gradients():
    q, log_prob = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(soft_q_value, (q, log_prob, alpha))
    assert torch.autograd.gradcheck(expected_soft_q_value, (q, log_prob, alpha))


@pytest.mark.parametrize("function", [soft_q_value, expected_soft_q_value])
def test_wrong_arguments_are_named(function):
    op = function.__name__
    x = torch.zeros(4)
    for text, arguments in (
        ("log_prob must have shape [4, 1], got [4]", (x.unsqueeze(1), x, 1.0)),
        ("alpha must be one number, got shape [4]", (x, x, x)),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(f"{op}: {text}")):
            function(*arguments)


def test_the_expectation_needs_actions():
    x = torch.tensor(0.0)
    with pytest.raises(
        ValueError, match=r"expected_soft_q_value: q must be \[..., actions\], got \[\]"
    ):
        expected_soft_q_value(x, x, 1.0)

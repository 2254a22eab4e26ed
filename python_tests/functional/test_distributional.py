"""C51's pieces against sums over atoms."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.testing import assert_close

from machin_fast.functional import (
    categorical_cross_entropy,
    double_q_distribution,
    double_q_value,
    expected_value,
)
from machin_fast.ops import categorical_projection

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
SHAPES = [(0, 3), (1, 1), (4,), (7, 51), (3, 65, 2)]


def rows_of(x):
    return x.reshape(-1, x.shape[-1]).tolist()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_expected_values_match_a_sum(shape, dtype, device):
    probability = torch.rand(shape, dtype=dtype).softmax(-1).to(device)
    support = torch.linspace(-3, 5, shape[-1], dtype=dtype, device=device)
    got = expected_value(probability, support)
    assert (got.shape, got.dtype) == (shape[:-1], dtype)
    z = support.tolist()
    want = [math.fsum(p * v for p, v in zip(row, z, strict=True)) for row in rows_of(probability)]
    assert_close(got.flatten().tolist(), want, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropies_match_a_sum(shape, dtype, device):
    target, logits = torch.randn(2, *shape, dtype=dtype).to(device)
    target, log_prob = target.softmax(-1), logits.log_softmax(-1)
    got = categorical_cross_entropy(target, log_prob)
    assert (got.shape, got.dtype) == (shape[:-1], dtype)
    pairs = zip(rows_of(target), rows_of(log_prob), strict=True)
    want = [-math.fsum(t * lp for t, lp in zip(*row, strict=True)) for row in pairs]
    assert_close(got.flatten().tolist(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_atoms_of_probability_0_make_no_nan(device):
    log_prob = torch.tensor([[0.5, 0.5, 0.0]] * 2, device=device).log().requires_grad_()
    target = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]], device=device)
    loss = categorical_cross_entropy(target, log_prob)
    assert_close(loss[0].item(), math.log(2))
    assert loss[1].isfinite() and loss[1] > 1e30
    loss.sum().backward()
    assert log_prob.grad.tolist() == [[-0.25, -0.75, 0], [0, 0, 0]]


@pytest.mark.parametrize(("batch", "actions"), [(0, 3), (1, 1), (7, 2), (65, 18)])
def test_one_network_chooses_and_the_other_judges(batch, actions, device):
    online, judge = torch.randn(2, batch, actions, 5, dtype=torch.float64).softmax(-1).to(device)
    support = torch.linspace(-1, 1, 5, dtype=torch.float64, device=device)
    q = expected_value(online, support)
    mask = torch.rand(batch, actions, device=device) < 0.5
    mask[:, 0] |= ~mask.any(1)
    for possible in (None, mask):
        got = double_q_distribution(q, judge, possible)
        assert got.shape == (batch, 5)
        # The mean of what was chosen is the value of Double DQN.
        want = double_q_value(q, expected_value(judge, support), possible)
        assert_close(expected_value(got, support).unsqueeze(1), want)
        assert all((row == judge[i]).all(1).any() for i, row in enumerate(got))


def test_targets_keep_the_mean_of_a_td_target(device):
    random = torch.Generator().manual_seed(3)
    judge = torch.rand(7, 4, 51, generator=random, dtype=torch.float64).softmax(-1).to(device)
    q = torch.rand(7, 4, generator=random, dtype=torch.float64).to(device)
    reward = torch.rand(7, generator=random, dtype=torch.float64).to(device)
    discount = torch.tensor([0.9, 0, 0.9, 0.9, 0, 0.9, 0.9], dtype=torch.float64, device=device)
    support = torch.linspace(-10, 10, 51, dtype=torch.float64, device=device)
    chosen = double_q_distribution(q, judge)
    target = categorical_projection(chosen, reward, discount, v_min=-10, v_max=10)
    want = reward + discount * expected_value(chosen, support)
    # No atom of 0.9 * z + reward reaches past the ends.
    assert_close(expected_value(target, support), want)


def test_a_row_without_actions_has_the_first_distribution():
    judge = torch.rand(2, 3, 4).softmax(-1)
    mask = torch.tensor([[False] * 3, [False, False, True]])
    got = double_q_distribution(torch.randn(2, 3), judge, mask)
    assert torch.equal(got, torch.stack([judge[0, 0], judge[1, 2]]))


def test_gradients():
    probability, log_prob = torch.rand(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    support = torch.linspace(0, 1, 5, dtype=torch.float64, requires_grad=True)
    q = torch.randn(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(expected_value, (probability, support))
    assert torch.autograd.gradcheck(categorical_cross_entropy, (probability, log_prob))
    assert torch.autograd.gradcheck(lambda p: double_q_distribution(q, p), (probability,))


def test_wrong_arguments_are_named():
    p, scalar = torch.rand(4, 3, 5), torch.tensor(1.0)
    for text, function, arguments in (
        ("expected_value: probability must be [..., atoms], got []", expected_value, (scalar, p)),
        ("expected_value: support must have shape [5], got [3]", expected_value, (p, p[0, :, 0])),
        (
            "categorical_cross_entropy: log_prob must have shape [4, 3, 5], got [4, 1, 5]",
            categorical_cross_entropy,
            (p, p[:, :1]),
        ),
        (
            "double_q_distribution: next_probability must be [batch, actions, atoms], got [4, 3]",
            double_q_distribution,
            (p[..., 0], p[..., 0]),
        ),
        (
            "double_q_distribution: next_q must have shape [4, 3], got [4, 1]",
            double_q_distribution,
            (p[:, :1, 0], p),
        ),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(text)):
            function(*arguments)

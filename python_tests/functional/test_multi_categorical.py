"""Several categorical distributions against one after the other, and machina's figures."""

from __future__ import annotations

import re

import pytest
import torch
from torch.testing import assert_close

from machin_fast.functional import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    multi_categorical_entropy,
    multi_categorical_kl,
    multi_categorical_log_prob,
    safe_log,
)

SIZES = [[3], [4, 4, 4], [2, 1, 5]]
# machina's figures; float32.
P = [
    [[0.0527919, 0.0151857, 0.9320224], [0.0321994, 0.4111452, 0.5566554]],
    [[0.2822821, 0.0452819, 0.672436], [0.1981123, 0.2185105, 0.5833772]],
    [[0.3794371, 0.2326858, 0.3878772], [0.3555353, 0.466671, 0.1777938]],
    [[0.2221498, 0.5518916, 0.2259586], [0.5900828, 0.2069056, 0.2030115]],
]
Q = [
    [[0.2833004, 0.2241931, 0.4925066], [0.1552631, 0.7403483, 0.1043886]],
    [[0.3666292, 0.1626094, 0.4707613], [0.5809038, 0.139992, 0.2791042]],
    [[0.5817025, 0.2496249, 0.1686726], [0.505411, 0.2104761, 0.284113]],
    [[0.4558956, 0.444195, 0.0999094], [0.2116134, 0.475212, 0.3131746]],
]


def case(batch, sizes, dtype=torch.float64, device="cpu"):
    logits, other = torch.randn(2, *batch, sum(sizes), dtype=dtype).to(device)
    mask = torch.rand(logits.shape).to(device) < 0.6
    for part in mask.split(sizes, -1):
        part[..., 0] |= ~part.any(-1)
    action = torch.stack([torch.randint(n, batch) for n in sizes], -1).to(device)
    return logits, other, action, mask


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("batch", [(), (0,), (1,), (7,), (3, 65)])
@pytest.mark.parametrize("sizes", SIZES)
def test_is_the_sum_over_dimensions(sizes, batch, dtype, atol, device):
    logits, other, action, mask = case(batch, sizes, dtype, device)
    for m in (torch.ones_like(mask), mask):
        parts = list(zip(*(x.split(sizes, -1) for x in (logits, other, m)), strict=True))
        for got, want in (
            (
                multi_categorical_log_prob(logits, sizes, action, m),
                [
                    categorical_log_prob(x, action[..., i], part)
                    for i, (x, _, part) in enumerate(parts)
                ],
            ),
            (
                multi_categorical_entropy(logits, sizes, m),
                [categorical_entropy(x, part) for x, _, part in parts],
            ),
            (
                multi_categorical_kl(logits, other, sizes, m),
                [categorical_kl(x, y, part) for x, y, part in parts],
            ),
        ):
            assert (got.shape, got.dtype) == (batch, dtype)
            assert_close(got, torch.stack(want).sum(0), atol=atol, rtol=1e-5)
    everything = torch.ones_like(mask)
    for function, arguments in (
        (multi_categorical_log_prob, (logits, sizes, action)),
        (multi_categorical_entropy, (logits, sizes)),
        (multi_categorical_kl, (logits, other, sizes)),
    ):
        assert torch.equal(function(*arguments), function(*arguments, everything))


@pytest.mark.parametrize("sizes", SIZES)
def test_gradients(sizes):
    logits, other, _, mask = case((3,), sizes)
    first = torch.stack([part.int().argmax(-1) for part in mask.split(sizes, -1)], -1)
    logits.requires_grad_()
    other.requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda x: multi_categorical_log_prob(x, sizes, first, mask), logits)
    assert check(lambda x: multi_categorical_entropy(x, sizes, mask), logits)
    assert check(lambda *x: multi_categorical_kl(*x, sizes, mask), (logits, other))


@pytest.mark.parametrize("sizes", SIZES)
def test_rows_without_actions_are_finite_and_teach_nothing(sizes, device):
    logits, other, action, mask = case((4,), sizes, torch.float32, device)
    mask[0] = False
    logits = logits.masked_fill(~mask, torch.nan).requires_grad_()
    for result in (
        multi_categorical_log_prob(logits, sizes, action, mask)[0],
        multi_categorical_entropy(logits, sizes, mask),
        multi_categorical_kl(logits, other, sizes, mask),
    ):
        assert result.isfinite().all()
        (gradient,) = torch.autograd.grad(result.sum(), logits)
        assert gradient.isfinite().all() and (gradient[~mask] == 0).all()


def test_machina(device):
    p, q = (safe_log(torch.tensor(x, device=device)).flatten(1) for x in (P, Q))
    action = torch.tensor([[0, 1], [2, 2], [1, 0], [0, 0]], device=device)
    for got, want in (
        (
            multi_categorical_log_prob(p, [3, 3], action),
            [-3.8302069, -0.9357696, -2.4921975, -2.0318959],
        ),
        # One number for each row, where machina's has a dimension more and broadcasts.
        (multi_categorical_kl(p, q, [3, 3]), [1.1041729, 0.4223357, 0.3077123, 0.4895893]),
        (multi_categorical_entropy(p, [3, 3]), [1.0866375, 1.7314996, 2.1047239, 1.9592838]),
    ):
        assert_close(got.tolist(), want, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_named():
    x, action = torch.zeros(4, 5), torch.zeros(4, 2, dtype=torch.int64)
    for text, function, arguments in (
        ("logits must have shape [4, 6], got [4, 5]", multi_categorical_entropy, (x, [3, 3])),
        (
            "sizes must be one or more, each at least 1, got []",
            multi_categorical_entropy,
            (x, []),
        ),
        (
            "sizes must be one or more, each at least 1, got [5, 0]",
            multi_categorical_entropy,
            (x, [5, 0]),
        ),
        (
            "action must have shape [4, 2], got [4]",
            multi_categorical_log_prob,
            (x, [2, 3], action[:, 0]),
        ),
        (
            "other_logits must have shape [4, 5], got [5]",
            multi_categorical_kl,
            (x, x[0], [2, 3]),
        ),
        (
            "action_mask must have shape [4, 5], got [5]",
            multi_categorical_kl,
            (x, x, [2, 3], x[0].bool()),
        ),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(f"{function.__name__}: {text}")):
            function(*arguments)

"""Categorical distributions against sums over actions, and against machina's figures."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.testing import assert_close

from machin_fast.functional import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    masked_log_softmax,
    safe_log,
)

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
SHAPES = [(0, 3), (1, 1), (4,), (7, 2), (3, 65, 6)]
# machina's figures; float32.
P = [
    [0.2116766, 0.2106208, 0.5777027], [0.234124, 0.6657078, 0.1001682],
    [0.1672819, 0.4985381, 0.3341801], [0.0939128, 0.6870225, 0.2190647],
]  # fmt: skip
Q = [
    [0.2368579, 0.2177745, 0.5453677], [0.7324036, 0.1020366, 0.1655597],
    [0.3479165, 0.129407, 0.5226765], [0.2773513, 0.0998117, 0.6228371],
]  # fmt: skip


def case(shape, dtype=torch.float64, device="cpu"):
    """Logits of two distributions, actions that are possible, and which ones are."""
    logits, other = 3 * torch.randn(2, *shape, dtype=dtype)
    mask = torch.rand(shape) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    action = (torch.rand(shape) * mask).argmax(-1)
    return [x.to(device) for x in (logits, other, action, mask)]


def probabilities(logits, mask):
    """Of each row, by the definition."""
    rows = zip(*(x.reshape(-1, logits.shape[-1]).tolist() for x in (logits, mask)), strict=True)
    for row, possible in rows:
        weight = [math.exp(x) if m else 0.0 for x, m in zip(row, possible, strict=True)]
        yield [w / math.fsum(weight) for w in weight]


def forms(logits, mask):
    """The same distribution, by a mask, by logits of -inf, and with NaN under the mask."""
    yield logits, mask
    yield logits.masked_fill(~mask, -torch.inf), None
    yield logits.masked_fill(~mask, torch.nan), mask


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_log_probabilities_match_the_definition(shape, dtype, device):
    logits, _, action, mask = case(shape, dtype, device)
    want = [
        math.log(p[a])
        for p, a in zip(probabilities(logits, mask), action.flatten().tolist(), strict=True)
    ]
    for x, m in forms(logits, mask):
        got = categorical_log_prob(x, action, m)
        assert (got.shape, got.dtype) == (action.shape, dtype)
        assert_close(got.flatten().tolist(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
        everything = masked_log_softmax(x, m)
        assert (everything.shape, everything.dtype) == (logits.shape, dtype)
        assert everything.isfinite().all()
        assert torch.equal(everything.gather(-1, action.unsqueeze(-1)).squeeze(-1), got)
        assert (everything[~mask].exp() == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_entropy_and_divergence_match_their_sums(shape, dtype, device):
    logits, other, _, mask = case(shape, dtype, device)
    p, q = list(probabilities(logits, mask)), list(probabilities(other, mask))
    entropy = [-math.fsum(x * math.log(x) for x in row if x) for row in p]
    kl = [
        math.fsum(x * math.log(x / y) for x, y in zip(*pair, strict=True) if x)
        for pair in zip(p, q, strict=True)
    ]
    for (x, m), (y, _) in zip(forms(logits, mask), forms(other, mask), strict=True):
        for got, want in ((categorical_entropy(x, m), entropy), (categorical_kl(x, y, m), kl)):
            assert (got.shape, got.dtype) == (logits.shape[:-1], dtype)
            tolerance = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
            assert_close(got.flatten().tolist(), want, **tolerance)


def test_a_policy_does_not_differ_from_itself(device):
    logits, _, _, mask = case((65, 6), torch.float32, device)
    for x, m in forms(logits, mask):
        assert (categorical_kl(x, x, m) == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_impossible_actions_make_no_nan(dtype, device):
    """Of values or gradients; a row without any possible action included."""
    mask = torch.tensor([[True, False, True], [False, True, False], [False] * 3], device=device)
    action = torch.tensor([0, 1, 2], device=device)
    plain = torch.randn(3, 3, dtype=dtype, device=device)
    inf = torch.inf
    for bad, m in ((0, mask), (inf, mask), (torch.nan, mask), (-inf, mask), (-inf, None)):
        logits = plain.masked_fill(~mask, bad).requires_grad_()
        other = plain.flip(0).masked_fill(~mask, bad).requires_grad_()
        for result in (
            masked_log_softmax(logits, m),
            categorical_log_prob(logits, action, m),
            categorical_entropy(logits, m),
            categorical_kl(logits, other, m),
        ):
            assert result.isfinite().all()
            leaves = (logits, other)
            for gradient in torch.autograd.grad(result.sum(), leaves, materialize_grads=True):
                assert gradient.isfinite().all()
                assert (gradient[~mask] == 0).all()


def test_large_logits_beside_impossible_actions_do_not_overflow(device):
    for dtype, large in ((torch.float16, 100.0), (torch.float32, 1e33)):
        logits = torch.tensor([large, -torch.inf, large], dtype=dtype, device=device)
        assert_close(categorical_entropy(logits).item(), math.log(2), rtol=1e-3, atol=0)


def test_what_the_other_one_excludes_is_far_but_finite(device):
    logits = torch.zeros(2, device=device, requires_grad=True)
    other = torch.tensor([0.0, -torch.inf], device=device, requires_grad=True)
    kl = categorical_kl(logits, other)
    assert kl.isfinite() and kl > 1e30
    assert all(x.isfinite().all() for x in torch.autograd.grad(kl, (logits, other)))
    # The other way round it is ln 2, whatever would be -inf - 0 times 0.
    assert_close(categorical_kl(other, logits).item(), math.log(2))


def test_gradients():
    logits, other, action, mask = case((5, 4))
    logits.requires_grad_()
    other.requires_grad_()
    for m in (None, mask):
        assert torch.autograd.gradcheck(lambda x, m=m: categorical_log_prob(x, action, m), logits)
        assert torch.autograd.gradcheck(lambda x, m=m: categorical_entropy(x, m), logits)
        assert torch.autograd.gradcheck(lambda *x, m=m: categorical_kl(*x, m), (logits, other))
    old = logits.detach().clone()
    assert torch.autograd.gradgradcheck(lambda x: categorical_kl(old, x, mask), logits)


def test_the_curvature_of_the_divergence_is_the_fisher_information():
    # diag(p) - p p^T, by the logits.
    logits = torch.randn(4, dtype=torch.float64)
    p = logits.softmax(0)
    hessian = torch.autograd.functional.hessian(lambda x: categorical_kl(logits, x), logits)
    assert_close(hessian, p.diag() - torch.outer(p, p))


def test_probabilities_of_0_are_safe(device):
    p = torch.tensor([0.0, 0.25, 0.75], device=device, requires_grad=True)
    logits = safe_log(p)
    assert_close(logits.softmax(0), p)
    entropy = categorical_entropy(logits)
    assert_close(entropy.item(), -0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    for result in (entropy, categorical_log_prob(logits, torch.tensor(1, device=device))):
        (gradient,) = torch.autograd.grad(result, p, retain_graph=True)
        assert gradient.isfinite().all() and gradient[0] == 0
    # Rows that pad an episode hold zeros alone. machina's loss is NaN from there on.
    pad = torch.zeros(2, 3, device=device, requires_grad=True)
    result = categorical_entropy(safe_log(pad)) + categorical_kl(safe_log(pad), logits.expand(2, 3))
    assert result.isfinite().all()
    assert torch.autograd.grad(result.sum(), pad)[0].isfinite().all()


def test_machina(device):
    p, q = (safe_log(torch.tensor(x, device=device)) for x in (P, Q))
    for got, want in (
        (
            categorical_log_prob(p, torch.tensor([0, 1, 2, 1], device=device)),
            [-1.5526959, -0.4069044, -1.0960753, -0.3753882],
        ),
        (categorical_kl(p, q), [0.0024477, 0.9312012, 0.4004164, 0.9947182]),
        (categorical_entropy(p), [0.9737356, 0.8412826, 1.0124191, 0.8126657]),
    ):
        assert_close(got.tolist(), want, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_named():
    x, scalar = torch.zeros(4, 3), torch.tensor(0.0)
    action = torch.zeros(4, dtype=torch.int64)
    for error, text, function, arguments in (
        (ValueError, "logits must be [..., actions], got []", categorical_entropy, (scalar,)),
        (ValueError, "logits must be [..., actions], got []", masked_log_softmax, (scalar,)),
        (
            ValueError,
            "action must have shape [4], got [4, 1]",
            categorical_log_prob,
            (x, action.unsqueeze(1)),
        ),
        (
            TypeError,
            "action must be int64, got torch.float32",
            categorical_log_prob,
            (x, action.float()),
        ),
        (
            ValueError,
            "other_logits must have shape [4, 3], got [3]",
            categorical_kl,
            (x, x[0]),
        ),
        (
            ValueError,
            "action_mask must have shape [4, 3], got [3]",
            categorical_entropy,
            (x, x[0].bool()),
        ),
        (
            TypeError,
            "action_mask must be bool, got torch.float32",
            categorical_kl,
            (x, x, x),
        ),
    ):
        with pytest.raises(error, match="^" + re.escape(f"{function.__name__}: {text}")):
            function(*arguments)

"""Squashed Gaussians against torch's, in float64."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution
from torch.testing import assert_close

from machin_fast.functional import inverse_tanh, tanh_gaussian_log_prob


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (4,), (7, 2), (3, 65, 6)])
def test_matches_torch_in_float64(shape, dtype, tolerance, device):
    mean, log_std, pre_tanh = torch.randn(3, *shape, dtype=dtype).to(device)
    squashed = TransformedDistribution(
        Normal(mean.double(), log_std.double().exp()), TanhTransform(cache_size=1)
    )
    # By the cache it takes these values for those before the squashing.
    action = squashed.transforms[0](pre_tanh.double())
    want = squashed.log_prob(action).sum(-1)
    got = tanh_gaussian_log_prob(mean, log_std, pre_tanh)
    assert (got.shape, got.dtype) == (shape[:-1], dtype)
    assert_close(got.double(), want, atol=tolerance, rtol=tolerance)


def test_the_density_integrates_to_1():
    action = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1].unsqueeze(1)
    mean, log_std = torch.full_like(action, 0.3), torch.full_like(action, -0.5)
    density = tanh_gaussian_log_prob(mean, log_std, action.atanh()).exp()
    assert_close(density.sum().item() * 1e-5, 1.0, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_exact_where_tanh_is_1(dtype, device):
    # The Gaussian is centred on it; what is left is log(1 - tanh(u)^2).
    for u in (12.0, -12.0, 300.0, -300.0):
        pre_tanh = torch.tensor([u], dtype=dtype, device=device, requires_grad=True)
        got = tanh_gaussian_log_prob(pre_tanh.detach(), torch.zeros_like(pre_tanh), pre_tanh)
        slope = 2 * (math.log(2) - abs(u) - math.log1p(math.exp(-2 * abs(u))))
        want = -0.5 * math.log(2 * math.pi) - slope
        assert_close(got.item(), want, rtol=4 * torch.finfo(dtype).eps, atol=0)
        (gradient,) = torch.autograd.grad(got, pre_tanh)
        assert_close(gradient.item(), 2 * math.tanh(u), rtol=1e-6, atol=0)


def test_gradient():
    data = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh_gaussian_log_prob, data.unbind())
    assert torch.autograd.gradcheck(lambda x: inverse_tanh(x.tanh()), data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inverse_is_finite_at_the_ends(dtype, device):
    u = torch.linspace(-3, 3, 65, dtype=dtype, device=device)
    assert_close(inverse_tanh(u.tanh()), u)
    ends = inverse_tanh(torch.tensor([-1.0, 1.0], dtype=dtype, device=device))
    assert ends.isfinite().all() and ends[1] > 8
    assert ends[0] == -ends[1]


def test_wrong_arguments_are_named():
    x = torch.zeros(4, 3)
    for text, arguments in (
        ("log_std must have shape [4, 3], got [3]", (x, x[0], x)),
        ("pre_tanh must have shape [4, 3], got [3]", (x, x, x[0])),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(f"tanh_gaussian_log_prob: {text}")):
            tanh_gaussian_log_prob(*arguments)

"""Gaussians against their formulas, torch's and machina's figures."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from machin_fast.functional import gaussian_entropy, gaussian_kl, gaussian_log_prob

SHAPES = [(0, 3), (3, 0), (1, 1), (4,), (7, 2), (3, 65, 6)]
MEAN = [[0.284, -0.617], [-0.362, -0.521], [0.21, -1.078], [-1.832, 0.088]]
LOG_STD = [[-1.4011, -1.5856], [-0.8881, -1.2133], [-0.8512, -1.1593], [-1.3366, -1.3732]]
OTHER_MEAN = [[-0.515, -0.273], [-0.823, -0.281], [-1.536, 0.014], [-1.794, -0.194]]
OTHER_LOG_STD = [[-0.7909, -0.6724], [-0.4858, -1.4668], [-0.7723, -0.6382], [-0.7057, -1.2787]]
ACTION = [[0.412, 1.86], [-1.497, 0.476], [1.112, -0.697], [0.583, -1.071]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_torch_in_float64(shape, dtype, tolerance, device):
    data = torch.randn(5, *shape, dtype=dtype).to(device)
    mean, log_std, other_mean, other_log_std, action = data
    one = Normal(mean.double(), log_std.double().exp())
    other = Normal(other_mean.double(), other_log_std.double().exp())
    for got, want in (
        (gaussian_log_prob(mean, log_std, action), one.log_prob(action.double())),
        (gaussian_entropy(log_std), one.entropy()),
        (gaussian_kl(mean, log_std, other_mean, other_log_std), kl_divergence(one, other)),
    ):
        assert (got.shape, got.dtype) == (shape[:-1], dtype)
        assert_close(got.double(), want.sum(-1), atol=tolerance, rtol=tolerance)


def test_by_hand():
    zero, one = torch.zeros(1), torch.ones(1)
    assert_close(gaussian_log_prob(zero, zero, one).item(), -0.5 - 0.5 * math.log(2 * math.pi))
    assert_close(gaussian_kl(zero, zero, one, zero).item(), 0.5)
    assert_close(gaussian_entropy(one).item(), 1.5 + 0.5 * math.log(2 * math.pi))


def test_small_divergences_are_not_rounding_errors():
    # With exp(x) - 1 - x in float32 this is 0, or negative.
    mean, log_std = torch.zeros(2, 1000)
    for change in (1e-3, 1e-4):
        kl = gaussian_kl(mean, log_std + change, mean, log_std)
        want = 1000 * (math.expm1(2 * change) - 2 * change) / 2
        assert_close(kl.item(), want, rtol=2e-3, atol=0)
    assert gaussian_kl(mean, log_std, mean, log_std) == 0


def test_gradients():
    data = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
    mean, log_std, other_mean, other_log_std, action = data.unbind()
    check = torch.autograd.gradcheck
    assert check(gaussian_log_prob, (mean, log_std, action))
    assert check(gaussian_entropy, (log_std,))
    assert check(gaussian_kl, (mean, log_std, other_mean, other_log_std))
    assert torch.autograd.gradgradcheck(gaussian_kl, (mean, log_std, other_mean, other_log_std))


def test_the_curvature_of_the_divergence_is_the_fisher_information():
    mean, log_std = torch.randn(2, 3, dtype=torch.float64)

    def kl(x):
        return gaussian_kl(mean, log_std, *x.split(3))

    hessian = torch.autograd.functional.hessian(kl, torch.cat([mean, log_std]))
    fisher = torch.cat([(-2 * log_std).exp(), torch.full((3,), 2.0, dtype=torch.float64)])
    assert_close(hessian, fisher.diag())


def test_machina(device):
    mean, log_std, other_mean, other_log_std, action = torch.tensor(
        [MEAN, LOG_STD, OTHER_MEAN, OTHER_LOG_STD, ACTION], device=device
    )
    for got, want in (
        (
            gaussian_log_prob(mean, log_std, action),
            [-72.1096344, -9.167738, -2.7970622, -51.8400803],
        ),
        (
            gaussian_kl(mean, log_std, other_mean, other_log_std),
            [2.5310009, 1.0246441, 9.4828968, 0.796845],
        ),
        (gaussian_entropy(log_std), [-0.148823, 0.736477, 0.8273771, 0.128077]),
    ):
        assert_close(got.tolist(), want, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_named():
    x, free, scalar = torch.zeros(4, 3), torch.zeros(3), torch.tensor(0.0)
    for text, function, arguments in (
        ("mean must be [..., dims], got []", gaussian_log_prob, (scalar, scalar, scalar)),
        ("log_std must be [..., dims], got []", gaussian_entropy, (scalar,)),
        ("log_std must have shape [4, 3], got [3]", gaussian_log_prob, (x, free, x)),
        ("action must have shape [4, 3], got [4, 1]", gaussian_log_prob, (x, x, x[:, :1])),
        ("log_std must have shape [4, 3], got [3]", gaussian_kl, (x, free, x, x)),
        ("other_mean must have shape [4, 3], got [3]", gaussian_kl, (x, x, free, x)),
        ("other_log_std must have shape [4, 3], got [3]", gaussian_kl, (x, x, x, free)),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(f"{function.__name__}: {text}")):
            function(*arguments)

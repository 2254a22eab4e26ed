"""Mixtures of Gaussians against torch's, in float64."""

from __future__ import annotations

import re

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from machin_fast.functional import gaussian_log_prob, gaussian_mixture_log_prob


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 2), (7, 5, 2), (3, 65, 2, 6)])
def test_matches_torch_in_float64(shape, dtype, tolerance, device):
    mean, log_std = torch.randn(2, *shape, dtype=dtype).to(device)
    logits = torch.randn(shape[:-1], dtype=dtype).to(device)
    action = torch.randn(*shape[:-2], shape[-1], dtype=dtype).to(device)
    mixture = MixtureSameFamily(
        Categorical(logits=logits.double()),
        Independent(Normal(mean.double(), log_std.double().exp()), 1),
    )
    got = gaussian_mixture_log_prob(logits, mean, log_std, action)
    assert (got.shape, got.dtype) == (shape[:-2], dtype)
    assert_close(got.double(), mixture.log_prob(action.double()), atol=tolerance, rtol=tolerance)


def test_no_rows_are_fine(device):
    mean = torch.zeros(0, 3, 2, device=device)
    got = gaussian_mixture_log_prob(mean[..., 0], mean, mean, mean[:, 0])
    assert got.shape == (0,)


def test_components_far_away_or_without_weight_do_no_harm(device):
    # The naive sum of densities is log(0) here.
    mean = torch.tensor([[100.0], [0.0], [7.0]], device=device)
    log_std = torch.full_like(mean, -3)
    logits = torch.tensor([0.0, 0.0, -torch.inf], device=device, requires_grad=True)
    action = torch.tensor([60.0], device=device, requires_grad=True)
    got = gaussian_mixture_log_prob(logits, mean, log_std, action)
    near = gaussian_log_prob(mean[0], log_std[0], action) - torch.tensor(2.0).log()
    assert_close(got, near)
    gradients = torch.autograd.grad(got, (logits, action))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[0].tolist() == [0.5, -0.5, 0]


def test_gradient():
    mean, log_std = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    action = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian_mixture_log_prob, (logits, mean, log_std, action))


def test_wrong_arguments_are_named():
    mean, logits, action = torch.zeros(4, 3, 2), torch.zeros(4, 3), torch.zeros(4, 2)
    for text, arguments in (
        ("mean must be [..., components, dims], got [2]", (logits, mean[0, 0], mean, action)),
        ("logits must have shape [4, 3], got [3]", (logits[0], mean, mean, action)),
        ("log_std must have shape [4, 3, 2], got [4, 2]", (logits, mean, mean[:, 0], action)),
        ("action must have shape [4, 2], got [4, 3, 2]", (logits, mean, mean, mean)),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(f"gaussian_mixture_log_prob: {text}")):
            gaussian_mixture_log_prob(*arguments)

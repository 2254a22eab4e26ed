"""Products with second derivatives against the whole matrices."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from machin_fast.functional import (
    categorical_kl,
    fisher_vector_product,
    flatten_tensors,
    hessian_vector_product,
    unflatten_tensors,
)


def parameters(device="cpu"):
    shapes = [(3, 4), (4,), (4, 2), ()]
    random = torch.Generator().manual_seed(1)
    return [
        torch.randn(shape, generator=random, dtype=torch.float64).to(device).requires_grad_()
        for shape in shapes
    ]


def logits(parameters, obs):
    first, bias, second, scale = parameters
    return torch.tanh(obs @ first + bias) @ second * scale


def test_matches_the_hessian(device):
    leaves = parameters(device)
    obs = torch.randn(7, 3, dtype=torch.float64).to(device)

    def loss(vector):
        return logits(unflatten_tensors(vector, leaves), obs).square().mean().exp()

    vector = flatten_tensors(leaves).detach()
    hessian = torch.autograd.functional.hessian(loss, vector)
    product = hessian_vector_product(loss(flatten_tensors(leaves)), iter(leaves))
    for _ in range(3):  # the graph is kept
        v = torch.randn_like(vector)
        got = product(v)
        assert not got.requires_grad
        assert_close(got, hessian @ v, rtol=1e-9, atol=1e-9)


def test_a_divergence_has_the_fisher_information(device):
    leaves = parameters(device)
    obs = torch.randn(7, 3, dtype=torch.float64).to(device)
    now = logits(leaves, obs)
    kl = categorical_kl(now.detach(), now).mean()
    product = fisher_vector_product(kl, leaves, 0.1)

    # J^T (diag(p) - p p^T) J, of each observation.
    vector = flatten_tensors(leaves).detach()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: logits(unflatten_tensors(x, leaves), obs), vector
    )
    p = now.detach().softmax(-1)
    metric = p.diag_embed() - p.unsqueeze(2) * p.unsqueeze(1)
    fisher = (jacobian.mT @ metric @ jacobian).mean(0)
    with torch.no_grad():
        got = torch.stack([product(v) for v in torch.eye(len(vector)).to(vector)])
    assert_close(got, fisher + 0.1 * torch.eye(len(vector)).to(vector))


def test_parameters_that_do_not_matter_have_no_curvature():
    used, idle = torch.randn(2, 3, requires_grad=True).unbind()
    used, idle = used.detach().requires_grad_(), idle.detach().requires_grad_()
    product = hessian_vector_product(used.square().sum(), [idle, used])
    assert product(torch.arange(6.0)).tolist() == [0, 0, 0, 6, 8, 10]


def test_negative_damping_is_refused():
    x = torch.ones(1, requires_grad=True)
    with pytest.raises(
        ValueError, match=r"fisher_vector_product: damping must be at least 0, got -0.1"
    ):
        fisher_vector_product(x.square().sum(), [x], -0.1)

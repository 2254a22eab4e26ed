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
    information_vector_product,
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


def test_information_is_that_of_the_jacobian(device):
    leaves = parameters(device)
    obs = torch.randn(7, 3, dtype=torch.float64).to(device)
    diagonal = torch.rand(14, dtype=torch.float64).to(device)
    diagonal[3] = 0
    output = logits(leaves, obs).flatten()
    product = information_vector_product(diagonal, output, iter(leaves), 0.1)

    vector = flatten_tensors(leaves).detach()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: logits(unflatten_tensors(x, leaves), obs).flatten(), vector
    )
    identity = torch.eye(len(vector)).to(vector)
    matrix = jacobian.mT @ (diagonal[:, None] * jacobian) + 0.1 * identity
    with torch.no_grad():
        got = [product(v) for v in identity]  # the graph is kept
    assert not any(each.requires_grad for each in got)
    assert_close(torch.stack(got), matrix, rtol=1e-12, atol=1e-12)
    v = torch.randn_like(vector)
    assert_close(product(v), matrix @ v, rtol=1e-12, atol=1e-12)


def test_information_of_a_gaussian_is_the_hessian_of_its_divergence(device):
    """Of means with one deviation: the Fisher information is 1 / variance for each."""
    leaves = parameters(device)
    obs = torch.randn(7, 3, dtype=torch.float64).to(device)
    mean = logits(leaves, obs)
    deviation = torch.tensor([0.5, 2.0], dtype=torch.float64).to(device)
    kl = ((mean.detach() - mean) / deviation).square().sum(1).mean() / 2
    diagonal = (1 / (7 * deviation**2)).expand(7, 2).flatten()
    whole = fisher_vector_product(kl, leaves, 0.0)
    product = information_vector_product(diagonal, mean.flatten(), leaves, 0.0)
    v = torch.randn_like(flatten_tensors(leaves))
    assert_close(product(v), whole(v), rtol=1e-9, atol=1e-9)


def test_information_of_parameters_that_do_not_matter_is_damping():
    used, idle = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    product = information_vector_product(torch.tensor([2.0, 3.0]), 5 * used, [idle, used], 0.5)
    assert product(torch.arange(1.0, 6.0)).tolist() == [0.5, 1, 1.5, 4 * 50.5, 5 * 75.5]


def test_bad_arguments_of_information_are_refused():
    x = torch.ones(2, requires_grad=True)
    op = "information_vector_product"
    with pytest.raises(ValueError, match=f"{op}: damping must be at least 0, got nan"):
        information_vector_product(torch.ones(2), x * 1, [x], float("nan"))
    with pytest.raises(ValueError, match=rf"{op}: diagonal must have shape \[2\], got \[3\]"):
        information_vector_product(torch.ones(3), x * 1, [x], 0.0)
    with pytest.raises(RuntimeError, match="does not require grad"):
        information_vector_product(torch.ones(2), torch.ones(2), [x], 0.0)


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

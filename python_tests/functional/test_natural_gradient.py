"""Conjugate and natural gradients against solved systems, and against machina's figures."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from functional import golden
from machin_fast.functional import (
    conjugate_gradient,
    fisher_vector_product,
    flatten_tensors,
    gaussian_kl,
    gaussian_log_prob,
    hard_update_,
    line_search,
    natural_gradient_step,
    policy_gradient_loss,
    unflatten_tensors,
)


def positive(n, dtype=torch.float64, device="cpu"):
    """A positive definite matrix with eigenvalues from 1 to 3, and a vector."""
    random = torch.Generator().manual_seed(n)
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=random, dtype=torch.float64))
    matrix = basis @ torch.linspace(1, 3, n, dtype=torch.float64).diag() @ basis.T
    b = torch.randn(n, generator=random, dtype=torch.float64)
    return matrix.to(device, dtype), b.to(device, dtype)


@pytest.mark.parametrize("n", [0, 1, 7, 65])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_solves_the_system(n, dtype, atol, device):
    matrix, b = positive(n, dtype, device)
    x = conjugate_gradient(lambda v: matrix @ v, b.requires_grad_(), iterations=65, tolerance=1e-20)
    assert (x.shape, x.dtype, x.requires_grad) == (b.shape, dtype, False)
    want = torch.linalg.solve(matrix.double(), b.detach().double())
    assert_close(x.double(), want, atol=atol, rtol=0)


def test_machina_conjugate_gradients(device):
    matrix = torch.tensor([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]], device=device)
    b = torch.tensor([1.0, 2.0, 3.0], device=device)
    x = conjugate_gradient(lambda v: matrix @ v, b, 10)
    assert_close(x.tolist(), [0.1547619, 0.3809524, 1.4047618], rtol=1e-4, atol=1e-5)


def test_it_stays_where_it_has_converged():
    # n steps are exact; those after it would divide rounding errors by each other.
    matrix, b = positive(3)
    exact = conjugate_gradient(lambda v: matrix @ v, b, 3)
    assert torch.equal(conjugate_gradient(lambda v: matrix @ v, b, 100), exact)
    assert (conjugate_gradient(lambda v: matrix @ v, torch.zeros(3).double(), 5) == 0).all()
    assert (conjugate_gradient(lambda v: matrix @ v, b, 0) == 0).all()
    coarse = conjugate_gradient(lambda v: matrix @ v, b, 100, tolerance=1.0)
    assert (b - matrix @ coarse).square().sum() < 1
    assert not torch.equal(coarse, exact)


def test_a_matrix_that_is_not_positive_gives_no_nan():
    b = torch.ones(2)
    for diagonal in ([1.0, -2.0], [0.0, 0.0], [-1.0, -1.0]):
        diagonal = torch.tensor(diagonal)
        x = conjugate_gradient(lambda v, d=diagonal: d * v, b)
        assert x.isfinite().all()
        assert natural_gradient_step(b, lambda v, d=diagonal: d * v, 0.01).isfinite().all()


def test_the_step_goes_as_far_as_it_may(device):
    matrix, gradient = positive(7, device=device)
    step = natural_gradient_step(gradient, lambda v: matrix @ v, 0.01)
    assert_close((step @ matrix @ step / 2).item(), 0.01)
    natural = torch.linalg.solve(matrix, gradient)
    assert_close(step / step.norm(), -natural / natural.norm(), atol=1e-5, rtol=0)
    none = natural_gradient_step(torch.zeros_like(gradient), lambda v: matrix @ v, 0.01)
    assert (none == 0).all()


def test_machina_trpo():
    net = golden.net(golden.POLICY)
    parameters = list(net.values())

    def figures():
        mean, log_std = golden.policy(net, golden.OBS)
        loss = policy_gradient_loss(
            gaussian_log_prob(mean, log_std, golden.ACTION), golden.ADVANTAGE
        )
        return loss, mean, log_std

    loss, mean, log_std = figures()
    assert_close(loss, golden.tensor(12.22715), **golden.TOLERANCE)
    kl = gaussian_kl(mean.detach(), log_std.detach(), mean, log_std).mean()
    product = fisher_vector_product(kl, parameters, 0.1)
    gradient = flatten_tensors(torch.autograd.grad(loss, parameters, retain_graph=True))
    step = natural_gradient_step(gradient, product, 0.01, 10)
    before = flatten_tensors(parameters).detach()

    def evaluate(part):
        hard_update_(parameters, unflatten_tensors(before + part * step, parameters))
        with torch.no_grad():
            new_loss, new_mean, new_log_std = figures()
            return new_loss, gaussian_kl(mean, log_std, new_mean, new_log_std).mean()

    part = line_search(evaluate, loss.detach(), -gradient @ step, 0.02)
    assert part == 1
    for name, want in (
        ("log_std", [-1.2857549, -0.7461305]),
        ("W", [[0.0011728, 0.3641036, -0.5692211], [0.6427962, -0.2986699, -0.0519585]]),
        ("b", [-0.142795, -0.0168159]),
    ):
        assert_close(net[name].detach(), golden.tensor(want), **golden.TOLERANCE)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"conjugate_gradient: b must be \[n\], got \[2, 1\]"):
        conjugate_gradient(lambda v: v, torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"natural_gradient_step: max_kl must be above 0, got 0"):
        natural_gradient_step(torch.ones(2), lambda v: v, 0)


@pytest.mark.compile
def test_compiles_into_one_graph(device):
    def step(matrix, gradient):
        return natural_gradient_step(gradient, lambda v: matrix @ v, 0.01, 5)

    torch.compiler.reset()
    matrix, gradient = positive(7, device=device)
    assert_close(torch.compile(step, fullgraph=True)(matrix, gradient), step(matrix, gradient))

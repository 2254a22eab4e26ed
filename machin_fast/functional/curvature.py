"""Products with matrices of second derivatives, which are never written out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from machin_fast.functional._checks import check_shape
from machin_fast.functional.flat import flatten_tensors

Product = Callable[[Tensor], Tensor]
"""A symmetric matrix, as what it makes of a vector ``[n]``."""


def hessian_vector_product(loss: Tensor, parameters: Iterable[Tensor]) -> Product:
    """The Hessian of a loss, as a function of vectors.

    The graph of the gradient is built here, once; each product is one backward pass through it.

    Source: Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147.

    Args:
        loss: ``[]``, with its graph.
        parameters: What to differentiate by, n numbers in all. Some may not matter to ``loss``.

    Returns:
        A function from ``[n]`` to ``[n]``, in the order of ``flatten_tensors``. What it returns
        carries no gradient. It keeps the graph alive.

    Raises:
        RuntimeError: By torch: ``loss`` is no scalar, or does not depend on the parameters.
    """
    parameters = list(parameters)
    gradient = flatten_tensors(
        torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    )

    def product(vector: Tensor) -> Tensor:
        return flatten_tensors(
            torch.autograd.grad(
                gradient, parameters, vector, retain_graph=True, materialize_grads=True
            )
        )

    return product


def fisher_vector_product(kl: Tensor, parameters: Iterable[Tensor], damping: float) -> Product:
    """The Fisher information of a policy, plus ``damping`` times identity.

    Source: Schulman et al. 2015 (TRPO), arXiv:1502.05477, appendix C.1.

    Args:
        kl: ``[]``, mean KL(policy, detached || policy), with its graph. Where the two are the
            same, as here, its Hessian is the Fisher information.
        parameters: Of the policy, n numbers in all.
        damping: At least 0; keeps the matrix from being singular.

    Returns:
        A function from ``[n]`` to ``[n]``, as by ``hessian_vector_product``.

    Raises:
        ValueError: ``damping`` is negative.
        RuntimeError: By torch: ``kl`` is no scalar, or does not depend on the parameters.
    """
    if not damping >= 0:
        raise ValueError(f"fisher_vector_product: damping must be at least 0, got {damping}")
    fisher = hessian_vector_product(kl, parameters)
    return lambda vector: fisher(vector) + damping * vector


def information_vector_product(
    diagonal: Tensor, output: Tensor, parameters: Iterable[Tensor], damping: float
) -> Product:
    """``J^T diagonal J`` plus ``damping`` times identity, J the Jacobian of an output.

    With the Fisher information of a distribution in its own parameters, which is often diagonal,
    this is the Fisher information of the network that computes these.

    Source: Schulman et al. 2015 (TRPO), arXiv:1502.05477, appendix C.1.

    Args:
        diagonal: ``[m]``.
        output: ``[m]``, with its graph.
        parameters: What J differentiates by, n numbers in all. Some may not matter.
        damping: At least 0.

    Returns:
        A function from ``[n]`` to ``[n]``, as by ``hessian_vector_product``.

    Raises:
        ValueError: ``damping`` is negative, or shapes differ.
        RuntimeError: By torch: ``output`` does not depend on the parameters.
    """
    op = "information_vector_product"
    if not damping >= 0:
        raise ValueError(f"{op}: damping must be at least 0, got {damping}")
    check_shape(op, "diagonal", diagonal, output.shape)
    parameters = list(parameters)
    # Linear in `seed`, so differentiating by it gives J v from two passes backwards.
    seed = torch.zeros_like(output, requires_grad=True)
    transposed = flatten_tensors(
        torch.autograd.grad(output, parameters, seed, create_graph=True, materialize_grads=True)
    )

    def product(vector: Tensor) -> Tensor:
        (image,) = torch.autograd.grad(transposed, seed, vector, retain_graph=True)
        back = torch.autograd.grad(
            output, parameters, diagonal * image, retain_graph=True, materialize_grads=True
        )
        return flatten_tensors(back) + damping * vector

    return product

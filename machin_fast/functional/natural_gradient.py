"""Natural gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.functional._checks import check_positive
from machin_fast.functional.curvature import Product


@torch.no_grad()
def conjugate_gradient(
    product: Product, b: Tensor, iterations: int = 10, tolerance: float = 1e-10
) -> Tensor:
    """Solves ``A x = b``, where A is positive definite and known by its products.

    It always takes ``iterations`` products, and so never waits for the device; after convergence,
    or where A turns out not to be positive, x stays.

    Source: Nocedal and Wright 2006, Numerical Optimization, algorithm 5.2.

    Args:
        product: From ``[n]`` to ``[n]``: A times a vector.
        b: ``[n]``.
        iterations: Products to take, at least 0.
        tolerance: x stays once its squared residual ``|b - A x|^2`` is below that.

    Returns:
        ``[n]``. Carries no gradient.

    Raises:
        ValueError: ``b`` is not ``[n]``.
    """
    if b.dim() != 1:
        raise ValueError(f"conjugate_gradient: b must be [n], got {list(b.shape)}")
    x, residual, direction = torch.zeros_like(b), b, b
    size = residual.dot(residual)
    for _ in range(iterations):
        image = product(direction)
        curvature = direction.dot(image)
        go = (size >= tolerance) & (curvature > 0)
        # Not multiplied by 0: what is not taken may be NaN.
        step = torch.where(go, size / curvature, 0)
        x = x + step * direction
        residual = residual - step * image
        new_size = residual.dot(residual)
        direction = residual + torch.where(go, new_size / size, 0) * direction
        size = new_size
    return x


@torch.no_grad()
def natural_gradient_step(
    gradient: Tensor,
    product: Product,
    max_kl: float,
    iterations: int = 10,
    tolerance: float = 1e-10,
) -> Tensor:
    """The step down a loss that changes the policy by ``max_kl``, as far as A tells.

    Source: Schulman et al. 2015 (TRPO), arXiv:1502.05477, appendix C.

    Args:
        gradient: ``[n]``, of the loss.
        product: From ``[n]`` to ``[n]``: A times a vector, as by ``fisher_vector_product``.
        max_kl: How far to go, above 0.
        iterations, tolerance: Of ``conjugate_gradient``.

    Returns:
        ``[n]``, to be added to the parameters; 0 where the gradient is. Carries no gradient.

    Raises:
        ValueError: ``gradient`` is not ``[n]``, or ``max_kl`` is out of its range.
    """
    check_positive("natural_gradient_step", "max_kl", max_kl)
    direction = conjugate_gradient(product, -gradient, iterations, tolerance)
    curvature = direction.dot(product(direction))
    scale = torch.where(curvature > 0, (2 * max_kl / curvature).sqrt(), 0)
    return scale * direction

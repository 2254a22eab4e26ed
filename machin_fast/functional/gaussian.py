"""Gaussian distributions with independent dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from machin_fast.functional._checks import check_dims, check_shape


def gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Logarithms of the density at the actions that were taken.

    Source: Bishop 2006, Pattern Recognition and Machine Learning, equation 2.43.

    Args:
        mean: ``[..., dims]``.
        log_std: Like ``mean``, logarithm of the deviation. A free vector is expanded first:
            ``log_std.expand_as(mean)`` costs nothing.
        action: Like ``mean``.

    Returns:
        ``[...]``. Differentiable in all three.

    Raises:
        ValueError: ``mean`` has no dimension, or the shapes differ.
    """
    op = "gaussian_log_prob"
    check_dims(op, "mean", mean, "dims")
    check_shape(op, "log_std", log_std, mean.shape)
    check_shape(op, "action", action, mean.shape)
    z = (action - mean) * (-log_std).exp()
    return -(z.square() / 2 + log_std + math.log(2 * math.pi) / 2).sum(-1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Entropies, in nats.

    Source: Cover and Thomas 2006, Elements of Information Theory, theorem 8.4.1.

    Args:
        log_std: ``[..., dims]``, logarithm of the deviation.

    Returns:
        ``[...]``. Differentiable.

    Raises:
        ValueError: ``log_std`` has no dimension.
    """
    check_dims("gaussian_entropy", "log_std", log_std, "dims")
    return (log_std + math.log(2 * math.pi * math.e) / 2).sum(-1)


def gaussian_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """KL(distribution || other distribution), in nats.

    Source: Kingma and Welling 2014, arXiv:1312.6114, appendix B, for any two.

    Args:
        mean: ``[..., dims]``.
        log_std: Like ``mean``, logarithm of the deviation.
        other_mean, other_log_std: Likewise, of the other one.

    Returns:
        ``[...]``; exactly 0 for the same two. Differentiable in all four.

    Raises:
        ValueError: ``mean`` has no dimension, or the shapes differ.
    """
    op = "gaussian_kl"
    check_dims(op, "mean", mean, "dims")
    check_shape(op, "log_std", log_std, mean.shape)
    check_shape(op, "other_mean", other_mean, mean.shape)
    check_shape(op, "other_log_std", other_log_std, mean.shape)
    z = (mean - other_mean) * (-other_log_std).exp()
    ratio = 2 * (log_std - other_log_std)
    # expm1: policies hardly differ, and exp(x) - 1 - x would be rounding errors alone.
    return (z.square() + torch.expm1(ratio) - ratio).sum(-1) / 2

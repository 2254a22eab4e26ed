"""Gaussian distributions squashed into (-1, 1) by tanh.

KL divergences are those of the Gaussians themselves: squashing both changes nothing. The entropy
has no closed form; ``-log_prob`` of a drawn action estimates it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from machin_fast.functional._checks import check_shape
from machin_fast.functional.gaussian import gaussian_log_prob


def tanh_gaussian_log_prob(mean: Tensor, log_std: Tensor, pre_tanh: Tensor) -> Tensor:
    """Logarithms of the density at ``tanh(pre_tanh)``, exact however near to -1 or 1 that is.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, appendix C, equation 26.

    Args:
        mean: ``[..., dims]``, of the Gaussian.
        log_std: Like ``mean``, logarithm of its deviation.
        pre_tanh: Like ``mean``, the actions before they were squashed (``inverse_tanh``).

    Returns:
        ``[...]``. Differentiable in all three.

    Raises:
        ValueError: ``mean`` has no dimension, or the shapes differ.
    """
    check_shape("tanh_gaussian_log_prob", "log_std", log_std, mean.shape)
    check_shape("tanh_gaussian_log_prob", "pre_tanh", pre_tanh, mean.shape)
    # log(1 - tanh(u)^2), which itself is log(0) from |u| = 9 on in float32.
    slope = 2 * (math.log(2) - pre_tanh + torch.nn.functional.logsigmoid(2 * pre_tanh))
    return gaussian_log_prob(mean, log_std, pre_tanh) - slope.sum(-1)


def inverse_tanh(action: Tensor) -> Tensor:
    """Actions before they were squashed.

    Source: none, this is a function's inverse.

    Args:
        action: Any shape, floating, in [-1, 1].

    Returns:
        Like ``action``, finite: -1 and 1 count as the nearest numbers inside. Differentiable.

    Raises:
        Nothing.
    """
    most = 1 - torch.finfo(action.dtype).eps
    return action.clamp(-most, most).atanh()

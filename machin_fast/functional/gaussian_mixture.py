"""Mixtures of Gaussians."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._checks import check_dims, check_shape
from machin_fast.functional.categorical import masked_log_softmax
from machin_fast.functional.gaussian import gaussian_log_prob


def gaussian_mixture_log_prob(
    logits: Tensor, mean: Tensor, log_std: Tensor, action: Tensor
) -> Tensor:
    """Logarithms of the density at the actions that were taken.

    Source: Bishop 2006, Pattern Recognition and Machine Learning, equation 9.7.

    Args:
        logits: ``[..., components]``, of the components' weights. May be -inf.
        mean: ``[..., components, dims]``.
        log_std: Like ``mean``, logarithm of the deviation.
        action: ``[..., dims]``.

    Returns:
        ``[...]``. Differentiable in all four.

    Raises:
        ValueError: A shape differs from what is listed above.
    """
    op = "gaussian_mixture_log_prob"
    check_dims(op, "mean", mean, "components", "dims")
    check_shape(op, "logits", logits, mean.shape[:-1])
    check_shape(op, "log_std", log_std, mean.shape)
    check_shape(op, "action", action, mean[..., 0, :].shape)
    component = gaussian_log_prob(mean, log_std, action.unsqueeze(-2).expand_as(mean))
    return (masked_log_softmax(logits) + component).logsumexp(-1)

"""Categorical distributions, by their logits.

Actions that are impossible, by their mask or by a logit of -inf, have probability 0 and a
log-probability that is huge but finite, so that neither values nor gradients become NaN. A row
without any possible action has finite values, which mean nothing, and no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.functional._checks import check_dims, check_mask, check_shape
from machin_fast.functional._finite import finite


def safe_log(probability: Tensor) -> Tensor:
    """Logits of probabilities: their logarithm, finite at 0.

    Source: none, this is a logarithm.

    Args:
        probability: Any shape, floating, at least 0.

    Returns:
        Like ``probability``. Differentiable; the gradient at 0 is 0.

    Raises:
        Nothing.
    """
    return probability.clamp(min=torch.finfo(probability.dtype).tiny).log()


def masked_log_softmax(logits: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Log-probabilities of all actions.

    Source: Huang and Ontanon 2022, arXiv:2006.14171, section 3.

    Args:
        logits: ``[..., actions]``. May be -inf.
        action_mask: Like ``logits``, bool: which actions there are. None: all.

    Returns:
        Like ``logits``, all finite: -1e38 and less for what is impossible. Differentiable. A row
        without actions means nothing and has no gradient.

    Raises:
        ValueError: ``logits`` has no dimension, or ``action_mask`` differs in shape.
        TypeError: ``action_mask`` is no bool.
    """
    return _log_softmax("masked_log_softmax", "logits", logits, action_mask)


def categorical_log_prob(
    logits: Tensor, action: Tensor, action_mask: Tensor | None = None
) -> Tensor:
    """Log-probabilities of the actions that were taken.

    Source: none, this is the distribution's definition.

    Args:
        logits: ``[..., actions]``. May be -inf.
        action: ``[...]``, int64.
        action_mask: Like ``logits``, bool: which actions there are. None: all.

    Returns:
        ``[...]``, dtype of ``logits``, all finite. Differentiable in ``logits``.

    Raises:
        ValueError: A shape differs from what is listed above.
        TypeError: ``action`` is no int64, or ``action_mask`` no bool.
    """
    op = "categorical_log_prob"
    log_prob = _log_softmax(op, "logits", logits, action_mask)
    check_shape(op, "action", action, logits.shape[:-1])
    if action.dtype is not torch.int64:
        raise TypeError(f"{op}: action must be int64, got {action.dtype}")
    return log_prob.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def categorical_entropy(logits: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Entropies, in nats.

    Source: Cover and Thomas 2006, Elements of Information Theory, equation 2.1.

    Args:
        logits: ``[..., actions]``. May be -inf.
        action_mask: Like ``logits``, bool: which actions there are. None: all.

    Returns:
        ``[...]``. Differentiable.

    Raises:
        ValueError: ``logits`` has no dimension, or ``action_mask`` differs in shape.
        TypeError: ``action_mask`` is no bool.
    """
    log_prob = _log_softmax("categorical_entropy", "logits", logits, action_mask)
    return -(log_prob.exp() * log_prob).sum(-1)


def categorical_kl(
    logits: Tensor, other_logits: Tensor, action_mask: Tensor | None = None
) -> Tensor:
    """KL(distribution || other distribution), in nats.

    Source: Cover and Thomas 2006, Elements of Information Theory, equation 2.26.

    Args:
        logits: ``[..., actions]``. May be -inf.
        other_logits: Like ``logits``.
        action_mask: Like ``logits``, bool: which actions there are for both. None: all.

    Returns:
        ``[...]``; huge, but finite, where the other one excludes what this one does not.
        Differentiable in both.

    Raises:
        ValueError: ``logits`` has no dimension, or the shapes differ.
        TypeError: ``action_mask`` is no bool.
    """
    op = "categorical_kl"
    log_prob = _log_softmax(op, "logits", logits, action_mask)
    check_shape(op, "other_logits", other_logits, logits.shape)
    other_log_prob = _log_softmax(op, "other_logits", other_logits, action_mask)
    return (log_prob.exp() * (log_prob - other_log_prob)).sum(-1)


def _log_softmax(op: str, name: str, logits: Tensor, action_mask: Tensor | None) -> Tensor:
    check_dims(op, name, logits, "actions")
    if action_mask is not None:
        check_mask(op, "action_mask", action_mask, logits.shape)
        logits = logits.masked_fill(~action_mask, -torch.inf)
    return finite(logits).log_softmax(-1)

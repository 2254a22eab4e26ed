"""Several categorical distributions side by side, independent of each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from machin_fast.functional._checks import check_dims, check_mask, check_shape
from machin_fast.functional.categorical import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
)


def multi_categorical_log_prob(
    logits: Tensor, sizes: Sequence[int], action: Tensor, action_mask: Tensor | None = None
) -> Tensor:
    """Log-probabilities of the actions that were taken.

    Source: none, this is the distribution's definition.

    Args:
        logits: ``[..., sum(sizes)]``, those of all dimensions one after the other. May be -inf.
        sizes: Number of actions of each dimension.
        action: ``[..., len(sizes)]``, int64.
        action_mask: Like ``logits``, bool: which actions there are. None: all.

    Returns:
        ``[...]``, dtype of ``logits``, all finite. Differentiable in ``logits``.

    Raises:
        ValueError: A shape differs from what is listed above, or ``sizes`` is empty.
        TypeError: ``action`` is no int64, or ``action_mask`` no bool.
    """
    op = "multi_categorical_log_prob"
    table = _table(op, "logits", logits, sizes, action_mask)
    check_shape(op, "action", action, table.shape[:-1])
    return categorical_log_prob(table, action).sum(-1)


def multi_categorical_entropy(
    logits: Tensor, sizes: Sequence[int], action_mask: Tensor | None = None
) -> Tensor:
    """Entropies, in nats.

    Source: Cover and Thomas 2006, Elements of Information Theory, theorem 2.6.6.

    Args:
        logits: ``[..., sum(sizes)]``, those of all dimensions one after the other. May be -inf.
        sizes: Number of actions of each dimension.
        action_mask: Like ``logits``, bool: which actions there are. None: all.

    Returns:
        ``[...]``. Differentiable.

    Raises:
        ValueError: A shape differs from what is listed above, or ``sizes`` is empty.
        TypeError: ``action_mask`` is no bool.
    """
    op = "multi_categorical_entropy"
    return categorical_entropy(_table(op, "logits", logits, sizes, action_mask)).sum(-1)


def multi_categorical_kl(
    logits: Tensor, other_logits: Tensor, sizes: Sequence[int], action_mask: Tensor | None = None
) -> Tensor:
    """KL(distribution || other distribution), in nats.

    Source: Cover and Thomas 2006, Elements of Information Theory, theorem 2.5.3.

    Args:
        logits: ``[..., sum(sizes)]``, those of all dimensions one after the other. May be -inf.
        other_logits: Like ``logits``.
        sizes: Number of actions of each dimension.
        action_mask: Like ``logits``, bool: which actions there are for both. None: all.

    Returns:
        ``[...]``; huge, but finite, where the other one excludes what this one does not.
        Differentiable in both.

    Raises:
        ValueError: A shape differs from what is listed above, or ``sizes`` is empty.
        TypeError: ``action_mask`` is no bool.
    """
    op = "multi_categorical_kl"
    table = _table(op, "logits", logits, sizes, action_mask)
    check_shape(op, "other_logits", other_logits, logits.shape)
    other_table = _table(op, "other_logits", other_logits, sizes, action_mask)
    return categorical_kl(table, other_table).sum(-1)


def _table(
    op: str, name: str, logits: Tensor, sizes: Sequence[int], action_mask: Tensor | None
) -> Tensor:
    """``[..., len(sizes), max(sizes)]``: a row for each dimension, short ones end with -inf."""
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{op}: sizes must be one or more, each at least 1, got {list(sizes)}")
    check_dims(op, name, logits, "sum(sizes)")
    check_shape(op, name, logits, torch.Size([*logits.shape[:-1], sum(sizes)]))
    if action_mask is not None:
        check_mask(op, "action_mask", action_mask, logits.shape)
        logits = logits.masked_fill(~action_mask, -torch.inf)
    width = max(sizes)
    if min(sizes) == width:
        return logits.reshape(*logits.shape[:-1], len(sizes), width)
    rows = [
        torch.nn.functional.pad(row, (0, width - row.shape[-1]), value=-torch.inf)
        for row in logits.split(list(sizes), -1)
    ]
    return torch.stack(rows, -2)

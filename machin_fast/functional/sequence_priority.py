"""Priorities of sequences."""

from __future__ import annotations

from torch import Tensor

from machin_fast.functional._checks import check_mask


def sequence_priority(error: Tensor, mask: Tensor | None = None, eta: float = 0.9) -> Tensor:
    """How wrong sequences were: ``eta * max|error| + (1 - eta) * mean|error|`` over their steps.

    Source: Kapturowski et al. 2019, Recurrent Experience Replay in Distributed Reinforcement
    Learning (R2D2), section 2.3.

    Args:
        error: ``[steps, batch]``, floating, temporal-difference errors.
        mask: Like ``error``, bool. False: no step, whatever stands there. None: all are steps.
        eta: Weight of the largest error against the mean, in [0, 1].

    Returns:
        ``[batch]``, dtype of ``error``; 0 for a sequence without steps. Differentiable.

    Raises:
        ValueError: ``error`` is not ``[steps, batch]``, ``mask`` differs in shape, or ``eta`` is
            out of its range.
        TypeError: ``mask`` is no bool.
    """
    op = "sequence_priority"
    if error.dim() != 2:
        raise ValueError(f"{op}: error must be [steps, batch], got {list(error.shape)}")
    if not 0 <= eta <= 1:
        raise ValueError(f"{op}: eta must be in [0, 1], got {eta}")
    size = error.abs()
    steps: Tensor | int = len(error)
    if mask is not None:
        check_mask(op, "mask", mask, error.shape)
        # Not multiplied: what is masked may be NaN.
        size = size.masked_fill(~mask, 0)
        steps = mask.sum(0).clamp(min=1)
    if not len(error):
        return size.sum(0)
    return eta * size.amax(0) + (1 - eta) * size.sum(0) / steps

"""Advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.functional._steps import mean, real


@torch.no_grad()
def normalize_advantage(advantage: Tensor, mask: Tensor | None = None) -> Tensor:
    """``(advantage - mean) / (std + 1e-6)``, with the unbiased deviation.

    Source: Andrychowicz et al. 2020, arXiv:2006.05990, section 3.3.

    Args:
        advantage: Any shape, floating.
        mask: Like ``advantage``, bool. False: no step, whatever stands there. None: all are
            steps.

    Returns:
        Like ``advantage``; 0 where there is no step, and for a single step. No gradient.

    Raises:
        ValueError: ``mask`` differs in shape.
        TypeError: ``mask`` is no bool.
    """
    op = "normalize_advantage"
    (advantage,) = real(op, mask, advantage=advantage)
    if mask is None:
        if advantage.numel() < 2:
            return advantage - advantage
        deviation, centre = torch.std_mean(advantage)
        return (advantage - centre) / (deviation + 1e-6)
    centred = (advantage - mean(op, mask, advantage)).masked_fill(~mask, 0)
    freedom = (mask.sum() - 1).clamp(min=1)
    return centred / ((centred.square().sum() / freedom).sqrt() + 1e-6)

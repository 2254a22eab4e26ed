"""Logarithms of 0."""

from __future__ import annotations

import torch
from torch import Tensor


def finite(log_prob: Tensor) -> Tensor:
    """``log_prob`` with -inf as a finite number whose exponential is 0.

    ``p * log(p)`` is then 0, and not NaN, at 0. Half the least number, so that the difference of
    two does not overflow.
    """
    return log_prob.clamp(min=torch.finfo(log_prob.dtype).min / 2)

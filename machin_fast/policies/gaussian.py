"""Gaussian policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from machin_fast.policies.distributions import Gaussian
from machin_fast.policies.policy import Policy, check_width

# Deviations that a network gives are kept between these, as in Haarnoja's implementation of SAC.
LOG_STD_RANGE = (-20.0, 2.0)


class GaussianPolicy(Policy):
    """Draws actions ``[..., action_dim]`` around a mean; they are not bounded, and carry no
    gradient.

    Source: Schulman et al. 2015, arXiv:1502.05477, appendix D (deviations that are parameters of
    their own).

    Args:
        net: Returns means, ``[..., action_dim]``; with ``state_dependent`` means and logarithms of
            deviations side by side, ``[..., 2 * action_dim]``.
        action_dim: Entries of an action.
        log_std: Logarithm of the deviation at first; nothing if it depends on the state.
        state_dependent: Whether the deviation is the network's too.
        log_std_range: What logarithms of deviations that the network gives are clamped to.

    Attributes:
        log_std: ``[action_dim]``, a parameter; None if the deviation depends on the state.

    Raises:
        ValueError: ``action_dim`` is below 1, or the range is none.
    """

    def __init__(
        self,
        net: nn.Module,
        action_dim: int,
        *,
        log_std: float = 0.0,
        state_dependent: bool = False,
        log_std_range: tuple[float, float] = LOG_STD_RANGE,
    ) -> None:
        super().__init__(net)
        check_dim("GaussianPolicy", action_dim)
        check_range("GaussianPolicy", log_std_range)
        self.action_dim = action_dim
        self.log_std_range = log_std_range
        values = torch.full((action_dim,), float(log_std))
        self.log_std = None if state_dependent else nn.Parameter(values)

    def _distribution(self, output: Tensor, kwargs: Mapping[str, Any]) -> Gaussian:
        if self.log_std is not None:
            check_width("GaussianPolicy", output, self.action_dim)
            return Gaussian(output, self.log_std)
        check_width("GaussianPolicy", output, 2 * self.action_dim)
        mean, log_std = output.chunk(2, -1)
        return Gaussian(mean, log_std.clamp(*self.log_std_range))


def check_dim(op: str, action_dim: int) -> None:
    if action_dim < 1:
        raise ValueError(f"{op}: action_dim must be 1 or more, got {action_dim}")


def check_range(op: str, log_std_range: tuple[float, float]) -> None:
    low, high = log_std_range
    if not low < high:
        raise ValueError(f"{op}: log_std_range must be (low, high), got {log_std_range}")

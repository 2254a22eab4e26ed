"""Gaussian policies with bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from machin_fast.policies.distributions import TanhGaussian
from machin_fast.policies.gaussian import LOG_STD_RANGE, check_range
from machin_fast.policies.policy import Policy
from machin_fast.policies.squash import bounds


class TanhGaussianPolicy(Policy):
    """Draws actions ``[..., action_dim]`` in [low, high]: Gaussian ones squashed by tanh.

    Drawn actions carry gradients, as SAC needs them, and come with their exact log-probability.
    The entropy has no closed form: with drawn actions it is ``-log_prob``, with given ones an
    estimate by one more draw. In given actions ``low`` and ``high`` count as the nearest numbers
    inside.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, appendix C.

    Args:
        net: Returns means and logarithms of deviations side by side, ``[..., 2 * action_dim]``.
        low, high: Bounds of actions: numbers, arrays or tensors ``[action_dim]``.
        log_std_range: What logarithms of deviations are clamped to.

    Attributes:
        low, high: Buffers, so that the bounds are saved with the parameters.

    Raises:
        ValueError: The bounds are not finite, not ``low < high``, or the range is none.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        net: nn.Module,
        low: Any = -1.0,
        high: Any = 1.0,
        *,
        log_std_range: tuple[float, float] = LOG_STD_RANGE,
    ) -> None:
        super().__init__(net)
        check_range("TanhGaussianPolicy", log_std_range)
        self.log_std_range = log_std_range
        least, most = bounds("TanhGaussianPolicy", low, high)
        self.register_buffer("low", least)
        self.register_buffer("high", most)

    def _distribution(self, output: Tensor, kwargs: Mapping[str, Any]) -> TanhGaussian:
        dim = self.low.numel() if self.low.dim() else output.shape[-1] // 2
        if output.shape[-1:] != (2 * dim,):
            wanted = 2 * dim if self.low.dim() else "2 * action_dim"
            raise ValueError(
                f"TanhGaussianPolicy: net must return [..., {wanted}], got {list(output.shape)}"
            )
        mean, log_std = output.chunk(2, -1)
        return TanhGaussian(mean, log_std.clamp(*self.log_std_range), self.low, self.high)

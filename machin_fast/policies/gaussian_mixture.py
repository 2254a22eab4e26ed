"""Policies that are mixtures of Gaussians."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from machin_fast.policies.distributions import GaussianMixture
from machin_fast.policies.gaussian import LOG_STD_RANGE, check_dim, check_range
from machin_fast.policies.policy import Policy, check_width


class GaussianMixturePolicy(Policy):
    """Draws actions ``[..., action_dim]`` around one of several means; they carry no gradient.

    The entropy has no closed form, and is estimated by one action of each Gaussian.

    Source: Bishop 1994, Mixture Density Networks, equations 22 to 26.

    Args:
        net: Returns ``[..., components * (1 + 2 * action_dim)]``: logits of the weights, then
            means of all components, then logarithms of their deviations.
        action_dim: Entries of an action.
        components: Number of Gaussians.
        log_std_range: What logarithms of deviations are clamped to.

    Raises:
        ValueError: A number is below 1, or the range is none.
    """

    def __init__(
        self,
        net: nn.Module,
        action_dim: int,
        components: int,
        *,
        log_std_range: tuple[float, float] = LOG_STD_RANGE,
    ) -> None:
        super().__init__(net)
        check_dim("GaussianMixturePolicy", action_dim)
        check_range("GaussianMixturePolicy", log_std_range)
        if components < 1:
            raise ValueError(
                f"GaussianMixturePolicy: components must be 1 or more, got {components}"
            )
        self.action_dim = action_dim
        self.components = components
        self.log_std_range = log_std_range

    def _distribution(self, output: Tensor, kwargs: Mapping[str, Any]) -> GaussianMixture:
        size = self.components * self.action_dim
        check_width("GaussianMixturePolicy", output, self.components + 2 * size)
        logits, mean, log_std = output.split([self.components, size, size], -1)
        shape = (self.components, self.action_dim)
        mean, log_std = mean.unflatten(-1, shape), log_std.unflatten(-1, shape)
        return GaussianMixture(logits, mean, log_std.clamp(*self.log_std_range))

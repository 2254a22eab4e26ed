"""Policies without chance."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from machin_fast.model.nets.wrapper import Wrapper, with_extras
from machin_fast.policies.policy import check_width
from machin_fast.policies.squash import bounds, squash


class DeterministicPolicy(Wrapper):
    """The action for each state, in [low, high]: what a network returns, squashed by tanh.

    Source: Lillicrap et al. 2016 (DDPG), arXiv:1509.02971, section 7.

    Args:
        net: Returns ``[..., action_dim]``, any numbers.
        low, high: Bounds of actions: numbers, arrays or tensors ``[action_dim]``.

    Attributes:
        low, high: Buffers, so that the bounds are saved with the parameters.

    Raises:
        ValueError: The bounds are not finite, or not ``low < high``.
    """

    low: Tensor
    high: Tensor

    def __init__(self, net: nn.Module, low: Any = -1.0, high: Any = 1.0) -> None:
        super().__init__(net)
        least, most = bounds("DeterministicPolicy", low, high)
        self.register_buffer("low", least)
        self.register_buffer("high", most)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The actions.

        Args:
            *args, **kwargs: Of the network.

        Returns:
            ``[..., action_dim]``, with gradient; in a tuple with what else the network returned,
            if it did.

        Raises:
            ValueError: The network returns another shape.
        """
        output, extras = self.call_net(args, kwargs)
        if self.low.dim():
            check_width("DeterministicPolicy", output, self.low.numel())
        return with_extras(squash(output, self.low, self.high), extras)

    def mode(self, *args: Any, **kwargs: Any) -> Any:
        """The same: what other policies do when nothing is left to chance."""
        return self(*args, **kwargs)

"""Critics of actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from machin_fast.model.nets.wrapper import Wrapper, with_extras


class StateActionCritic(Wrapper):
    """Q(s, a) by a network that sees state and action side by side.

    Source: Fujimoto et al. 2018 (TD3), arXiv:1802.09477, appendix C.

    Args:
        net: Takes ``[..., state_features + action_dim]``, returns ``[..., 1]``; such as
            ``MLP(state_features + action_dim, 1)``.
        encoder: Takes what the critic is called with except the action, returns
            ``[..., state_features]``. None: the state itself.
    """

    own_names = frozenset({"action"})

    def __init__(self, net: nn.Module, encoder: nn.Module | None = None) -> None:
        super().__init__(_State() if encoder is None else encoder)
        self.head = net
        self.out_features = getattr(net, "out_features", None)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The values of actions.

        Args:
            *args, **kwargs: ``state``, or whatever the encoder takes, and ``action``,
                ``[..., action_dim]``; given by position, it is the last one.

        Returns:
            ``[..., 1]``; and what the encoder returned behind its output.

        Raises:
            TypeError: There is no action.
        """
        if "action" in kwargs:
            action: Tensor = kwargs["action"]
        elif args:
            *args, action = args  # type: ignore[assignment]
        else:
            raise TypeError("StateActionCritic.forward: action must be given, got none")
        state, extras = self.call_net(tuple(args), kwargs)
        return with_extras(self.head(torch.cat([state, action], -1)), extras)


class _State(nn.Module):
    def forward(self, state: Tensor) -> Tensor:
        return state

"""Machin's actors for trust region policy optimization."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from machin_fast.model.algorithms import trpo
from networks import ACTIONS, DIM, OBS, layers


class Discrete(trpo.ActorDiscrete):
    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS)

    def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
        return self.sample(self.net(state).softmax(1), action)


class Continuous(trpo.ActorContinuous):
    def __init__(self) -> None:
        super().__init__(DIM, -0.5)
        self.net = layers(OBS, DIM)

    def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
        return self.sample(self.net(state), action)


class Misled(nn.Module):
    """Logits whose gradients point the wrong way, so that every step makes a loss worse."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS)

    def forward(self, state: Tensor) -> Tensor:
        logits: Tensor = self.net(state)
        return 2 * logits.detach() - logits

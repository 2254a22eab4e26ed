"""Small networks that tests of algorithms share: observations of 4 numbers, 3 actions or 2 dims."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from machin_fast.model.nets import NoisyLinear

OBS, ACTIONS, DIM, ATOMS = 4, 3, 2, 6


def layers(inputs: int, outputs: int, *between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), *between, nn.Tanh(), nn.Linear(8, outputs))


class QNet(nn.Module):
    """``state [B, 4]`` to ``[B, 3]``."""

    def __init__(self, obs: int = OBS, actions: int = ACTIONS) -> None:
        super().__init__()
        self.net = layers(obs, actions)

    def forward(self, state: Tensor) -> Any:
        return self.net(state)


class QNetExtra(QNet):
    """Also returns what a recurrent network would."""

    def forward(self, state: Tensor) -> Any:
        return self.net(state), state.sum(1, keepdim=True), "extra"


class QNetTwo(nn.Module):
    """Two inputs, one of which has a default."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS)

    def forward(self, position: Tensor, goal: Tensor, scale: float = 1.0) -> Tensor:
        return self.net(torch.cat([position, goal], 1)) * scale


class QNetNorm(QNet):
    """Has buffers, and differs between train and eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS, nn.BatchNorm1d(8))


class QNetDropout(QNet):
    """Differs between train and eval mode, by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS, nn.Dropout(0.5))


class QNetNoisy(QNet):
    """Draws noise in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(NoisyLinear(OBS, ACTIONS))


class DistributionNet(nn.Module):
    """``state [B, 4]`` to probabilities ``[B, 3, 6]``, without ``log_prob``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS * ATOMS)

    def forward(self, state: Tensor) -> Any:
        return self.net(state).unflatten(1, (ACTIONS, ATOMS)).softmax(2)


class Actor(nn.Module):
    """``state [B, 4]`` to actions ``[B, 2]`` in (-1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, DIM)

    def forward(self, state: Tensor) -> Any:
        return self.net(state).tanh()


class ActorExtra(Actor):
    """Also returns what a recurrent network would."""

    def forward(self, state: Tensor) -> Any:
        return self.net(state).tanh(), state.sum(1, keepdim=True)


class ActorProbability(nn.Module):
    """``state [B, 4]`` to probabilities ``[B, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS)

    def forward(self, state: Tensor) -> Any:
        return self.net(state).softmax(1)


class Critic(nn.Module):
    """``state [B, 4]`` and ``action [B, dim]`` to ``[B, 1]``."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.net = layers(OBS + dim, 1)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([state, action], 1))


class ValueNet(nn.Module):
    """``state [B, 4]`` to ``[B, 1]``."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.net = layers(OBS, 1, *between)

    def forward(self, state: Tensor) -> Any:
        return self.net(state)


class ActorDiscrete(nn.Module):
    """Machin's actor of A2C and PPO, discrete: action, log-probability, entropy, each ``[B]``."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.net = layers(OBS, ACTIONS, *between)

    def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
        found = Categorical(logits=self.net(state))
        chosen = found.sample() if action is None else action.flatten()
        return chosen.view(-1, 1), found.log_prob(chosen), found.entropy()


class ActorContinuous(nn.Module):
    """Machin's actor of A2C, PPO and SAC, continuous: actions ``[B, 2]``, the others ``[B, 1]``."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.net = layers(OBS, DIM, *between)
        self.log_std = nn.Parameter(torch.full((DIM,), -0.5))

    def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
        found = Normal(self.net(state), self.log_std.exp())
        chosen = found.rsample() if action is None else action
        log_prob, entropy = found.log_prob(chosen), found.entropy()
        return chosen, log_prob.sum(1, keepdim=True), entropy.sum(1, keepdim=True)

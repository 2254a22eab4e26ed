"""Double DQN."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from machin_fast.data import Batch
from machin_fast.functional import double_q_value, polyak_update_, td_target


@dataclass(frozen=True)
class AgentSettings:
    """Hyper-parameters of the networks and of one gradient step."""

    hidden: int = 128
    """Width of the two hidden layers."""
    learning_rate: float = 2.3e-3
    max_gradient_norm: float = 10.0
    target_rate: float = 0.01
    """Part of the way that the target network follows in each gradient step."""


class DoubleDQN:
    """Two networks of action values: one learns, the other one follows slowly and judges.

    Sources: Mnih et al. 2015 (doi:10.1038/nature14236); van Hasselt et al. 2016
    (arXiv:1509.06461).
    """

    def __init__(
        self, state_size: int, num_actions: int, settings: AgentSettings, device: torch.device
    ) -> None:
        hidden = settings.hidden
        self.q = nn.Sequential(
            nn.Linear(state_size, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_actions),
        ).to(device)  # fmt: skip
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.epsilon = 1.0
        """Share of random actions in ``explore``."""
        self._num_actions = num_actions
        self._settings = settings
        self._device = device
        self._parameters = list(self.q.parameters())
        self._target_parameters = list(self.q_target.parameters())
        self._optimizer = torch.optim.Adam(self._parameters, lr=settings.learning_rate, fused=True)

    @torch.inference_mode()
    def act(self, state: Mapping[str, Tensor]) -> Tensor:
        """The best actions for a ``state`` ``[envs, ...]``: ``[envs]``, on the CPU."""
        return self.q(state["state"].to(self._device)).argmax(dim=1).cpu()

    @torch.inference_mode()
    def explore(self, state: Mapping[str, Tensor]) -> Tensor:
        """The best actions, each replaced by a random one with probability ``epsilon``."""
        envs = len(state["state"])
        random = torch.rand(envs) < self.epsilon
        return torch.where(random, torch.randint(self._num_actions, (envs,)), self.act(state))

    def learn(self, batch: Batch) -> Tensor:
        """Takes one gradient step; returns the sizes of the TD errors, ``[batch]``."""
        with torch.no_grad():
            next_q, next_q_target = self.q(batch.next_state), self.q_target(batch.next_state)
            next_value = double_q_value(next_q, next_q_target).squeeze(1)
            target = td_target(batch.reward, batch.discount, next_value)
        value = self.q(batch.state).gather(1, batch.action.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(value, target, reduction="none")
        self._optimizer.zero_grad()
        (loss * batch.weight).mean().backward()
        nn.utils.clip_grad_norm_(self._parameters, self._settings.max_gradient_norm, foreach=True)
        self._optimizer.step()
        polyak_update_(self._target_parameters, self._parameters, self._settings.target_rate)
        return (target - value.detach()).abs_()

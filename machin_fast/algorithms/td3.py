"""Twin delayed DDPG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from machin_fast.algorithms._batches import Named
from machin_fast.algorithms._off_policy import Memory
from machin_fast.algorithms.base import Figures
from machin_fast.algorithms.ddpg import DDPG
from machin_fast.data import Batch

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options


class TD3(DDPG):
    """DDPG with two critics, of which the lower one judges.

    The paper's other two means are options: by default the actor learns in each update, and
    ``policy_noise_function`` leaves target actions as they are.

    Source: Fujimoto et al. 2018, arXiv:1802.09477.

    Args:
        actor, actor_target, critic, critic_target: As for ``DDPG``.
        critic2, critic2_target: The second critic.
        optimizer, criterion, *_, **__: As for ``DDPG``; ``lr_scheduler_args`` have three entries.
        policy_delay: Updates of the critics for each of the actor and of the targets; 2 in the
            paper.
        target_noise: Deviation of noise on target actions, and its bound; (0.2, 0.5) in the paper,
            for actions in [-1, 1]. None: no noise.
        action_range: What target actions with noise are clamped to. None: nothing.

    Raises:
        ValueError: As for ``DDPG``, or another argument is not as listed above.
    """

    _is_top = (*DDPG._is_top, "critic2", "critic2_target")
    _is_restorable = (*DDPG._is_restorable, "critic2_target")
    _optimizers = (*DDPG._optimizers, "critic2_optim")
    _targets = {**DDPG._targets, "critic2": "critic2_target"}
    _counters = (*DDPG._counters, "_value_updates", "_judged")
    _critics = ("critic", "critic2")

    def __init__(
        self,
        actor: nn.Module,
        actor_target: nn.Module,
        critic: nn.Module,
        critic_target: nn.Module,
        critic2: nn.Module,
        critic2_target: nn.Module,
        optimizer: Any,
        criterion: Any,
        *_: Any,
        lr_scheduler: Any = None,
        lr_scheduler_args: Any = None,
        lr_scheduler_kwargs: Any = None,
        batch_size: int = 100,
        update_rate: float | None = 0.001,
        update_steps: int | None = None,
        actor_learning_rate: float = 0.0005,
        critic_learning_rate: float = 0.001,
        discount: float = 0.99,
        gradient_max: float = math.inf,
        replay_size: int = 500000,
        replay_device: str | torch.device = "cpu",
        replay_buffer: Memory | None = None,
        visualize: bool = False,
        visualize_dir: str = "",
        policy_delay: int = 1,
        target_noise: tuple[float, float] | None = None,
        action_range: tuple[float, float] | None = None,
        **__: Unpack[Options],
    ) -> None:
        self._second = {"critic2": critic2, "critic2_target": critic2_target}
        super().__init__(
            actor,
            actor_target,
            critic,
            critic_target,
            optimizer,
            criterion,
            lr_scheduler=lr_scheduler,
            lr_scheduler_args=lr_scheduler_args,
            lr_scheduler_kwargs=lr_scheduler_kwargs,
            batch_size=batch_size,
            update_rate=update_rate,
            update_steps=update_steps,
            actor_learning_rate=actor_learning_rate,
            critic_learning_rate=critic_learning_rate,
            discount=discount,
            gradient_max=gradient_max,
            replay_size=replay_size,
            replay_device=replay_device,
            replay_buffer=replay_buffer,
            visualize=visualize,
            visualize_dir=visualize_dir,
            **__,
        )
        self._check_range(policy_delay=(policy_delay, "at least 1", policy_delay >= 1))
        for name, pair in (("target_noise", target_noise), ("action_range", action_range)):
            if pair is not None and (not isinstance(pair, Sequence) or len(pair) != 2):
                raise ValueError(f"TD3: {name} must be a pair of numbers or None, got {pair}")
        self._value_updates = 0
        self._judged = torch.zeros((), device=self.device)
        self.policy_delay = policy_delay
        self.target_noise = target_noise
        self.action_range = action_range

    critic2: nn.Module
    critic2_target: nn.Module

    def _set_up_more(self, optimizer: Any, critic_learning_rate: float) -> None:
        self._own(**self._second)
        del self._second
        self._optimize(
            "critic2_optim", optimizer, self._parameters["critic2"], critic_learning_rate
        )

    def _criticize2(
        self,
        state: Mapping[str, Any],
        action: Mapping[str, Any],
        use_target: bool = False,
        **__: Any,
    ) -> Any:
        return self._judged_by("critic2", state, action, use_target)

    @staticmethod
    def policy_noise_function(actions: Any, *_: Any) -> Any:
        """Changes the target policy's actions; may be replaced.

        Args:
            actions: ``[batch, action_dim]``.
            *_: Nothing.

        Returns:
            Actions, as they are.
        """
        return actions

    def learn(self, batch: Batch, **switches: bool) -> Figures:
        figures = super().learn(batch, **switches)
        self._value_updates += 1
        return figures

    def _policy_loss(self, batch: Batch, state: Named, more: Named) -> Tensor:
        if self._value_updates and not self._policy_is_due():
            return self._judged  # nothing moves the actor, so nobody needs a new one
        loss = super()._policy_loss(batch, state, more)
        self._judged = loss.detach()
        return loss

    def _smoothed(self, action: Any) -> Any:
        action = self.policy_noise_function(action)
        if self.target_noise is not None:
            std, bound = self.target_noise
            action = action + (std * torch.randn_like(action)).clamp(-bound, bound)
        return action if self.action_range is None else action.clamp(*self.action_range)

    def _policy_is_due(self) -> bool:
        return (self._value_updates + 1) % self.policy_delay == 0

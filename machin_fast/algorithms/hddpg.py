"""Hysteretic DDPG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from machin_fast.algorithms._off_policy import Memory
from machin_fast.algorithms.ddpg import DDPG
from machin_fast.functional import hysteretic_target

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options


class HDDPG(DDPG):
    """DDPG that learns at another rate from good news than from bad ones.

    Source: Matignon et al. 2007, Hysteretic Q-learning, doi:10.1109/IROS.2007.4399095.

    Args:
        actor, actor_target, critic, critic_target, optimizer, criterion, *_, **__: As for
            ``DDPG``.
        q_increase_rate, q_decrease_rate: Part of the way that a prediction is moved towards its
            target, where that is above it, and below it.

    Raises:
        ValueError: As for ``DDPG``, or a rate is negative.
    """

    def __init__(
        self,
        actor: nn.Module,
        actor_target: nn.Module,
        critic: nn.Module,
        critic_target: nn.Module,
        optimizer: Any,
        criterion: Any,
        *_: Any,
        lr_scheduler: Any = None,
        lr_scheduler_args: Any = None,
        lr_scheduler_kwargs: Any = None,
        batch_size: int = 100,
        update_rate: float | None = 0.005,
        update_steps: int | None = None,
        actor_learning_rate: float = 0.0005,
        critic_learning_rate: float = 0.001,
        discount: float = 0.99,
        gradient_max: float = math.inf,
        q_increase_rate: float = 1.0,
        q_decrease_rate: float = 1.0,
        replay_size: int = 500000,
        replay_device: str | torch.device = "cpu",
        replay_buffer: Memory | None = None,
        visualize: bool = False,
        visualize_dir: str = "",
        **__: Unpack[Options],
    ) -> None:
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
        self._check_range(
            q_increase_rate=(q_increase_rate, "at least 0", q_increase_rate >= 0),
            q_decrease_rate=(q_decrease_rate, "at least 0", q_decrease_rate >= 0),
        )
        self.q_increase_rate = q_increase_rate
        self.q_decrease_rate = q_decrease_rate

    def _goal(self, value: Tensor, target: Tensor) -> Tensor:
        return hysteretic_target(value, target, self.q_increase_rate, self.q_decrease_rate)

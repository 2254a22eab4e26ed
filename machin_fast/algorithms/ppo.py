"""Proximal policy optimization."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from machin_fast.algorithms.a2c import A2C
from machin_fast.algorithms.base import Figures
from machin_fast.buffers import Buffer
from machin_fast.data import Batch
from machin_fast.functional import kl_coefficient, masked_mean, ppo_clip_loss, ppo_kl_loss

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options


class PPO(A2C):
    """Proximal policy optimization, by clipping or by a penalty on the divergence.

    Batches have what those of ``A2C`` have, and ``log_prob``, the logarithm of the probability with
    which the policy that acted chose the action. Where it was not stored it is computed once, at
    the start of an update, by the policy as it then is.

    Source: Schulman et al. 2017, arXiv:1707.06347.

    Args:
        actor, critic, optimizer, criterion, *_, **__: As for ``A2C``.
        surrogate_loss_clip: How far the ratio of probabilities may go from 1.
        kl_target: If given, the divergence from the old policy is not clipped but penalized, and
            the penalty follows this target, such as 0.01.

    Attributes:
        surr_clip: ``surrogate_loss_clip``.
        kl_weight: Weight of the penalty.

    Raises:
        ValueError: An argument is out of its range.
    """

    _counters = ("kl_weight",)
    _needs_log_prob = True

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: Any,
        criterion: Any,
        *_: Any,
        lr_scheduler: Any = None,
        lr_scheduler_args: Any = None,
        lr_scheduler_kwargs: Any = None,
        batch_size: int = 100,
        actor_update_times: int = 5,
        critic_update_times: int = 10,
        actor_learning_rate: float = 0.001,
        critic_learning_rate: float = 0.001,
        entropy_weight: float | None = None,
        value_weight: float = 0.5,
        surrogate_loss_clip: float = 0.2,
        gradient_max: float = math.inf,
        gae_lambda: float = 1.0,
        discount: float = 0.99,
        normalize_advantage: bool = True,
        replay_size: int = 500000,
        replay_device: str | torch.device = "cpu",
        replay_buffer: Buffer | None = None,
        visualize: bool = False,
        visualize_dir: str = "",
        epochs: int | None = None,
        kl_target: float | None = None,
        **__: Unpack[Options],
    ) -> None:
        super().__init__(
            actor,
            critic,
            optimizer,
            criterion,
            lr_scheduler=lr_scheduler,
            lr_scheduler_args=lr_scheduler_args,
            lr_scheduler_kwargs=lr_scheduler_kwargs,
            batch_size=batch_size,
            actor_update_times=actor_update_times,
            critic_update_times=critic_update_times,
            actor_learning_rate=actor_learning_rate,
            critic_learning_rate=critic_learning_rate,
            entropy_weight=entropy_weight,
            value_weight=value_weight,
            gradient_max=gradient_max,
            gae_lambda=gae_lambda,
            discount=discount,
            normalize_advantage=normalize_advantage,
            replay_size=replay_size,
            replay_device=replay_device,
            replay_buffer=replay_buffer,
            visualize=visualize,
            visualize_dir=visualize_dir,
            epochs=epochs,
            **__,
        )
        self._check_range(
            surrogate_loss_clip=(surrogate_loss_clip, "above 0", surrogate_loss_clip > 0)
        )
        if kl_target is not None:
            self._check_range(kl_target=(kl_target, "above 0", kl_target > 0))
        self.surr_clip = surrogate_loss_clip
        self.kl_target = kl_target
        self.kl_weight = torch.ones(())
        self._last: Batch | None = None

    def over(self, batches: Iterable[Batch]) -> dict[str, float]:
        figures = super().over(batches)
        self._adapt()
        return figures

    def update(
        self,
        update_value: bool = True,
        update_policy: bool = True,
        concatenate_samples: bool = True,
        **__: Any,
    ) -> tuple[float, float]:
        losses = super().update(update_value, update_policy, concatenate_samples)
        self._adapt()
        return losses

    def _learn_both(self, batch: Batch, update_policy: bool, update_value: bool) -> Figures:
        self._note(batch, update_policy)
        return super()._learn_both(batch, update_policy, update_value)

    def _learn_policy(self, batch: Batch, update: bool) -> Figures:
        self._note(batch, update)
        return super()._learn_policy(batch, update)

    def _note(self, batch: Batch, update: bool) -> None:
        """Keeps what the policy learns from last, to see how far it went."""
        if update and self.kl_target is not None:
            self._last = batch

    @torch.no_grad()
    def _adapt(self) -> None:
        """Makes the penalty heavier after the policy went too far, lighter after too near."""
        batch, self._last = self._last, None
        if self.kl_target is None or batch is None:
            return
        with self._precision():
            kl = _divergence(self._evaluated(batch)[0], self._number(batch, "log_prob"))
        mean = masked_mean(kl, self._mask(batch))
        self.kl_weight = kl_coefficient(self.kl_weight, mean, self.kl_target).cpu()

    def _policy_loss(
        self, log_prob: Tensor, advantage: Tensor, batch: Batch, mask: Tensor | None
    ) -> tuple[Tensor, Figures]:
        old = self._number(batch, "log_prob").to(log_prob.dtype)
        with torch.set_grad_enabled(self.kl_target is not None):
            kl = _divergence(log_prob, old)
        figures = {"kl": masked_mean(kl.detach(), mask)}
        if self.kl_target is None:
            return ppo_clip_loss(log_prob, old, advantage, self.surr_clip, mask), figures
        return ppo_kl_loss(log_prob, old, advantage, kl, self.kl_weight, mask), figures


def _divergence(log_prob: Tensor, old: Tensor) -> Tensor:
    """What has KL(old || new) as its mean over the old policy's actions, and is never negative.

    Source: Schulman 2020, Approximating KL Divergence.
    """
    log_ratio = log_prob - old
    return log_ratio.exp() - 1 - log_ratio

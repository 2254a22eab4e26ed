"""Rainbow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from machin_fast import ops
from machin_fast.algorithms._batches import Named
from machin_fast.algorithms._episodes import Step, trajectory_of, without_time_limit
from machin_fast.algorithms._off_policy import Memory
from machin_fast.algorithms.base import full_precision
from machin_fast.algorithms.dqn import DQN
from machin_fast.buffers import Buffer, PrioritizedBuffer
from machin_fast.data import Batch, Trajectory, transforms
from machin_fast.functional import (
    categorical_cross_entropy,
    double_q_distribution,
    expected_value,
    safe_log,
)
from machin_fast.model.call import inside, safe_call
from machin_fast.model.nets.noisy import without_noise

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options


class RAINBOW(DQN):
    """Q-learning with all that made it better, each of which can be left out.

    - distributional: ``qnet(state...)`` returns ``[batch, action_num, atom_num]``, probabilities
      of returns from ``value_min`` to ``value_max``. With ``distributional=False`` it returns
      ``[batch, action_num]``, values, and ``criterion`` says how wrong they are.
    - double: ``double=False`` lets the target network choose.
    - steps: ``reward_future_steps`` rewards are summed, up to the end of an episode; 1: none.
    - prioritized: ``replay_buffer=Buffer(n)`` draws uniformly.
    - noisy and duelling: layers of the network, see ``model.nets`` and ``model.for_spaces``. With
      noisy layers ``epsilon`` may be 0; ``act_discrete`` acts without noise.

    Source: Hessel et al. 2018, arXiv:1710.02298.

    Args:
        qnet, qnet_target, optimizer: As for ``DQN``.
        value_min, value_max: Returns of the first and the last atom.
        *_, **__: As for ``DQN``.
        reward_future_steps: Rewards to sum, at least 1.
        distributional, double: See above.
        criterion: Loss of values, with ``distributional=False``. None: Huber's.

    Raises:
        ValueError: As for ``DQN``.
    """

    _default_buffer = PrioritizedBuffer
    _config = {"value_min": -1.0, "value_max": 1.0}

    def __init__(
        self,
        qnet: nn.Module,
        qnet_target: nn.Module,
        optimizer: Any,
        value_min: float,
        value_max: float,
        *_: Any,
        lr_scheduler: Any = None,
        lr_scheduler_args: Any = None,
        lr_scheduler_kwargs: Any = None,
        batch_size: int = 100,
        epsilon_decay: float = 0.9999,
        update_rate: float | None = 0.001,
        update_steps: int | None = None,
        learning_rate: float = 0.001,
        discount: float = 0.99,
        gradient_max: float = math.inf,
        reward_future_steps: int = 3,
        replay_size: int = 500000,
        replay_device: str | torch.device = "cpu",
        replay_buffer: Memory | None = None,
        visualize: bool = False,
        visualize_dir: str = "",
        distributional: bool = True,
        double: bool = True,
        criterion: Any = None,
        **__: Unpack[Options],
    ) -> None:
        super().__init__(
            qnet,
            qnet_target,
            optimizer,
            nn.HuberLoss() if criterion is None else criterion,
            lr_scheduler=lr_scheduler,
            lr_scheduler_args=lr_scheduler_args,
            lr_scheduler_kwargs=lr_scheduler_kwargs,
            batch_size=batch_size,
            epsilon_decay=epsilon_decay,
            update_rate=update_rate,
            update_steps=update_steps,
            learning_rate=learning_rate,
            discount=discount,
            gradient_max=gradient_max,
            replay_size=replay_size,
            replay_device=replay_device,
            replay_buffer=replay_buffer,
            mode="double" if double else "fixed_target",
            visualize=visualize,
            visualize_dir=visualize_dir,
            **__,
        )
        self._check_range(
            value_max=(value_max, f"above value_min, {value_min}", value_max > value_min),
            reward_future_steps=(reward_future_steps, "at least 1", reward_future_steps >= 1),
        )
        if isinstance(self.replay_buffer, Buffer) and self.replay_buffer.n_step > 1:
            raise ValueError(
                "RAINBOW: replay_buffer must have n_step=1, as reward_future_steps sums rewards, "
                f"got {self.replay_buffer.n_step}"
            )
        self.v_min = value_min
        self.v_max = value_max
        self.reward_future_steps = reward_future_steps
        self.distributional = distributional

    def store_episode(self, episode: Sequence[Step]) -> None:
        """Stores an episode, or a part of one, as steps of ``reward_future_steps``.

        Args:
            episode: As for ``DQN``. Dicts get an item ``value``, the sum of rewards.

        Raises:
            ValueError: As for ``DQN``.
        """
        trajectory = self._summed(trajectory_of([without_time_limit(step) for step in episode]))
        super().store(trajectory)
        for step, value in zip(episode, trajectory["reward"].tolist(), strict=True):
            if isinstance(step, dict):
                step["value"] = value

    def store(self, trajectory: Trajectory) -> None:
        """Stores the steps of many environments at once, as ``store_episode`` does.

        Args:
            trajectory: As for ``DQN``.

        Raises:
            ValueError: As for ``DQN``.
        """
        super().store(self._summed(trajectory))

    def _summed(self, trajectory: Trajectory) -> Trajectory:
        return transforms.nstep(self.reward_future_steps, self.discount)(trajectory)

    def act_discrete(self, state: Mapping[str, Any], use_target: bool = False, **__: Any) -> Any:
        """The best actions, without the noise of noisy layers. As of ``DQN``."""
        with without_noise(self.qnet_target if use_target else self.qnet):
            return super().act_discrete(state, use_target)

    def _evaluate(self, state: Mapping[str, Any], use_target: bool) -> tuple[Any, ...]:
        found, *extra = super()._evaluate(state, use_target)
        return (self._mean(found) if self.distributional else found, *extra)

    def _mean(self, probability: Tensor) -> Tensor:
        """Q(s, a) of distributions."""
        atoms = probability.shape[-1]
        support = torch.linspace(self.v_min, self.v_max, atoms, device=probability.device)
        return expected_value(probability, support.to(probability.dtype))

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        if batch.mask is not None:
            raise ValueError(
                "RAINBOW: batch must be of single rows, got sequences, in which what follows a row "
                "is not what its rewards lead to. Use DQN"
            )
        if not self.distributional:
            return super()._losses(batch)
        action = self._taken(batch)
        log_prob = self._log_distribution(self.qnet, self._named(batch, "state"))
        log_prob = log_prob.take_along_dim(action.unsqueeze(2), 1).squeeze(1)
        with torch.no_grad():
            next_state = self._named(batch, "next_state")
            judge = self._distribution(self.qnet_target, next_state)
            double = self.mode == "double"
            chooser = self._distribution(self.qnet, next_state) if double else judge
            mask = self._whole(next_state.get("action_mask"))
            following = double_q_distribution(self._mean(chooser), judge, mask)
            target = self._projected(batch, following)
        loss = categorical_cross_entropy(target, log_prob).unsqueeze(1)
        weighted = loss
        if batch.weighted:
            weighted = loss * self._here(batch.weight).to(loss.dtype).unsqueeze(1)
        value = self._mean(log_prob.detach().exp())
        return weighted.mean(), loss.detach() + 1e-6, value

    def _projected(self, batch: Batch, following: Tensor) -> Tensor:
        """What the distributions of next states make of the rewards."""
        reward = self._number(batch, "reward").to(following.dtype)
        if "discount" in batch:
            discount = self._number(batch, "discount").to(following.dtype)
        else:
            discount = torch.full_like(reward, self.discount)
        discount = discount.masked_fill(self._number(batch, "terminated"), 0)
        return ops.categorical_projection(
            following, reward.squeeze(1), discount.squeeze(1), v_min=self.v_min, v_max=self.v_max
        )

    def _distribution(self, network: nn.Module, state: Named, method: str = "__call__") -> Tensor:
        found = safe_call(network, state, method=method)[0]
        if found.dim() != 3:
            raise ValueError(
                "RAINBOW: the network must return [batch, action_num, atom_num], "
                f"got {list(found.shape)}. Or pass distributional=False"
            )
        return full_precision(found)

    def _log_distribution(self, network: nn.Module, state: Named) -> Tensor:
        if hasattr(inside(network), "log_prob"):  # exact, however small
            return self._distribution(network, state, "log_prob")
        return safe_log(self._distribution(network, state))

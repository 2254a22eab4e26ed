"""What algorithms share that learn from a replay memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from machin_fast.algorithms import _batches
from machin_fast.algorithms._episodes import Step, trajectory_of, without_time_limit
from machin_fast.algorithms._sequences import check_successive
from machin_fast.algorithms.base import TorchFramework, full_precision
from machin_fast.buffers import Buffer, PrioritizedBuffer
from machin_fast.data import Batch, Replay, Trajectory
from machin_fast.functional import hard_update_, masked_mean, polyak_update_, sequence_priority
from machin_fast.model.call import safe_call

Memory: TypeAlias = Buffer | Replay


class OffPolicy(TorchFramework):
    """Learns from transitions that any policy made.

    Batches have ``state``, ``action``, ``next_state`` (or ``state/key`` and so on), ``reward`` and
    ``terminated``; ``discount`` of each row if it is not the same for all, as with steps of
    several. What ended by ``truncated`` alone goes on in ``next_state``.

    Attributes:
        burn_in: First steps of the windows of a ``Replay``, which only warm up recurrent networks;
            0, unless it is set.
    """

    burn_in = 0

    _default_buffer: ClassVar[type[Buffer]] = Buffer

    def _set_up(
        self,
        *,
        batch_size: int,
        discount: float,
        update_rate: float | None,
        update_steps: int | None,
        gradient_max: float,
        replay_size: int,
        replay_device: str | torch.device,
        replay_buffer: Memory | None,
        visualize: bool,
        visualize_dir: str,
        criterion: Any = None,
    ) -> None:
        """Takes what the constructors of all have in common."""
        if update_rate is not None and update_steps is not None:
            raise ValueError(
                f"{type(self).__name__}: update_rate and update_steps must not both be given, got "
                f"{update_rate} and {update_steps}. Pass update_rate=None for hard updates"
            )
        self._check_range(
            batch_size=(batch_size, "at least 1", batch_size >= 1),
            discount=(discount, "in [0, 1]", 0 <= discount <= 1),
            gradient_max=(gradient_max, "above 0", gradient_max > 0),
        )
        if update_rate is not None:
            self._check_range(update_rate=(update_rate, "in (0, 1]", 0 < update_rate <= 1))
        if update_steps is not None:
            self._check_range(update_steps=(update_steps, "at least 1", update_steps >= 1))
        self.batch_size = batch_size
        self.discount = discount
        self.update_rate = update_rate
        self.update_steps = update_steps
        self.grad_max = gradient_max
        self.visualize = visualize
        self.visualize_dir = visualize_dir
        self.criterion = criterion
        self.replay_buffer = (
            self._default_buffer(replay_size, replay_device)
            if replay_buffer is None
            else replay_buffer
        )
        self._update_count = 0
        self._elementwise: tuple[Any, Any] = (None, None)

    # -- storing -------------------------------------------------------------------------------

    def store_episode(self, episode: Sequence[Step]) -> None:
        """Stores an episode, or a part of one.

        Args:
            episode: Dicts with ``state``, ``action``, ``next_state`` (of tensors ``[1, ...]`` by
                name), ``reward``, ``terminal`` and whatever else; or ``Transition`` objects. A
                step with a true ``truncated`` did not terminate, even if it is terminal.

        Raises:
            ValueError: It is empty, or a transition is not valid; nothing is changed.
        """
        steps = [without_time_limit(step) for step in episode]
        if isinstance(self.replay_buffer, Replay):
            self.replay_buffer.append(trajectory_of(steps))
        else:
            self.replay_buffer.store_episode(steps)

    def store_transition(self, transition: Step) -> None:
        """Stores an episode of one step, as Machin before 0.4.2 did.

        Args:
            transition: As in ``store_episode``.

        Raises:
            ValueError: As ``store_episode`` does.
        """
        self.store_episode([transition])

    def store(self, trajectory: Trajectory) -> None:
        """Stores the steps of many environments at once.

        Args:
            trajectory: With state, action, reward, and what followed each step.

        Raises:
            ValueError: Something is missing; nothing is changed.
        """
        if isinstance(self.replay_buffer, Replay):
            self.replay_buffer.append(trajectory)
        else:
            self.replay_buffer.store_trajectory(trajectory)

    # -- drawing -------------------------------------------------------------------------------

    def _draw(self, concatenate: bool = True) -> Batch:
        """A batch from the memory."""
        memory = self.replay_buffer
        batch: Batch | None
        if isinstance(memory, Replay):
            if len(memory):
                if memory.window is not None:
                    return memory.sample_windows(self.batch_size, burn_in=self.burn_in)
                return memory.sample(self.batch_size)
            batch = None
        else:
            batch = _batches.sample(memory, self.batch_size, concatenate)
        if batch is None:
            raise ValueError(
                f"{type(self).__name__}.update: replay_buffer must hold a transition, got none. "
                "Call store_episode first"
            )
        return batch

    def _target(self, batch: Batch, next_value: Tensor) -> Tensor:
        """What ``reward_function`` makes of a batch, ``[..., 1]``, without gradient."""
        next_value = full_precision(next_value)
        reward, terminated = self._number(batch, "reward"), self._number(batch, "terminated")
        discount: Any = self.discount
        if "discount" in batch:
            if batch.mask is not None:
                check_successive(f"{type(self).__name__}.learn", batch)
            discount = self._number(batch, "discount").to(next_value.dtype)
        others = _batches.others(batch, ("reward", "terminated", "discount"))
        target = self.reward_function(reward, discount, next_value, terminated, others)
        if target.shape != next_value.shape:  # the criterion would broadcast it
            raise ValueError(
                f"{type(self).__name__}: reward_function must return {list(next_value.shape)}, "
                f"got {list(target.shape)}"
            )
        target = target.detach().to(next_value.dtype)
        mask = self._mask(batch)
        # Padding may be anything: what is left out of a loss may be NaN, but no gradient may.
        return target if mask is None else target.masked_fill(~mask, 0)

    @staticmethod
    def reward_function(
        reward: Tensor,
        discount: Tensor | float,
        next_value: Tensor,
        terminal: Tensor,
        _: Mapping[str, Any],
    ) -> Tensor:
        """Targets of values; may be replaced.

        Args:
            reward: ``[batch, 1]``.
            discount: Of a step; ``[batch, 1]`` where rows are of several steps.
            next_value: ``[batch, 1]``.
            terminal: ``[batch, 1]``, bool: nothing follows.
            _: Custom attributes by name.

        Returns:
            ``[batch, 1]``, ``reward + discount * next_value``, without the latter where terminal.
        """
        return reward + discount * next_value.masked_fill(terminal, 0)

    # -- learning ------------------------------------------------------------------------------

    def _value_loss(self, value: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """The criterion, weighted as the batch says.

        Args:
            value: ``[..., 1]``, what a critic says; the first argument of the criterion.
            target: Like ``value``.
            batch: Gives the mask and weights.

        Returns:
            ``[]``.
        """
        if batch.mask is None and not batch.weighted and self._reduction() != "none":
            return self.criterion(value, target)
        loss = self._each(value, target)
        if batch.weighted:
            loss = loss * self._here(batch.weight).to(loss.dtype).unsqueeze(-1)
        mask = self._mask(batch)
        if self._reduction() == "sum":
            return loss.sum() if mask is None else loss.masked_fill(~mask, 0).sum()
        return loss.mean() if mask is None else masked_mean(loss, mask)

    def _reduction(self) -> str | None:
        return getattr(self.criterion, "reduction", None)

    def _each(self, value: Tensor, target: Tensor) -> Tensor:
        """The criterion of each row, whatever its ``reduction`` is."""
        if self._reduction() is None:
            raise ValueError(
                f"{type(self).__name__}: criterion must have a reduction, as losses of torch do, "
                f"to learn from weighted batches, got {self.criterion!r}"
            )
        made_of, each = self._elementwise
        if made_of is not self.criterion:
            each = copy.copy(self.criterion)
            each.reduction = "none"
            self._elementwise = self.criterion, each
        return each(value, target)

    def _write_back(self, batch: Batch, error: Tensor) -> None:
        """Gives a batch its priorities: sizes of TD errors, ``[..., 1]``."""
        if not batch.prioritized:
            return
        size = error.detach().abs().squeeze(-1)
        mask = self._mask(batch)
        if mask is not None:
            size = sequence_priority(size, mask.squeeze(-1))
        if self.lazy:  # nobody was told of a loss that is not finite, nor learned from it
            size = size.nan_to_num(0, 0)
        batch.update_priority(size)

    def _follow(self) -> None:
        """Moves the target networks: a part of the way, or all of it now and then."""
        self._update_count += 1
        target: list[Tensor] = []
        online: list[Tensor] = []
        for source, follower in self._targets.items():
            if getattr(self, source) is not getattr(self, follower):
                online += self._parameters[source]
                target += self._parameters[follower]
        if self.update_rate is not None:
            polyak_update_(target, online, self.update_rate)
        elif self.update_steps is not None and self._update_count % self.update_steps == 0:
            for source, follower in self._targets.items():
                target += getattr(self, follower).buffers()
                online += getattr(self, source).buffers()
            hard_update_(target, online)

    # -- state ---------------------------------------------------------------------------------

    def _memory_state(self) -> Any:
        return self.replay_buffer.state_dict()

    def _set_memory_state(self, state: Any) -> None:
        self.replay_buffer.load_state_dict(state)


class ActorCritic(OffPolicy):
    """Critics judge what an actor does; for both, actions are arguments by name."""

    actor: nn.Module
    critic: nn.Module
    critic_target: nn.Module

    @staticmethod
    def action_transform_function(raw_output_action: Any, *_: Any) -> Any:
        """Arguments of critics for what the actor returned; may be replaced.

        Args:
            raw_output_action: The actor's first result.
            *_: The state, and custom attributes of the batch, each by name.

        Returns:
            Actions by name.
        """
        return {"action": raw_output_action}

    def _criticize(
        self,
        state: Mapping[str, Any],
        action: Mapping[str, Any],
        use_target: bool = False,
        **__: Any,
    ) -> Any:
        return self._judged_by("critic", state, action, use_target)

    def _judged_by(
        self, name: str, state: Mapping[str, Any], action: Mapping[str, Any], use_target: bool
    ) -> Any:
        """What the critic ``name``, or its target, says of actions."""
        return safe_call(getattr(self, f"{name}_target" if use_target else name), state, action)[0]


class Prioritized(OffPolicy):
    """Learns more often from what it was more wrong about."""

    _default_buffer = PrioritizedBuffer

    def _set_up(self, **settings: Any) -> None:
        super()._set_up(**settings)
        if not hasattr(self.criterion, "reduction"):
            raise RuntimeError(
                f"{type(self).__name__}: Criterion does not have the 'reduction' property: "
                f"criterion must be a loss like those of torch.nn, got {self.criterion!r}"
            )
        self.criterion.reduction = "none"

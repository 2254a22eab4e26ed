"""Deep deterministic policy gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from machin_fast.algorithms._batches import Named, others
from machin_fast.algorithms._off_policy import ActorCritic, Memory
from machin_fast.algorithms._sequences import from_first
from machin_fast.algorithms.base import Figures, full_precision
from machin_fast.algorithms.utils import assert_output_is_probs
from machin_fast.data import Batch
from machin_fast.functional import deterministic_policy_loss, min_q_value
from machin_fast.model.call import safe_call, safe_return
from machin_fast.noise import action_space_noise

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options

_NOISES = {
    "uniform": action_space_noise.add_uniform_noise_to_action,
    "normal": action_space_noise.add_normal_noise_to_action,
    "clipped_normal": action_space_noise.add_clipped_normal_noise_to_action,
    "ou": action_space_noise.add_ou_noise_to_action,
}


class DDPG(ActorCritic):
    """Deep deterministic policy gradient.

    ``actor(state...)`` returns actions ``[batch, action_dim]``, or probabilities of discrete ones
    ``[batch, action_num]``, which are then what is stored. ``critic(state..., action...)`` returns
    ``[batch, 1]``. Recurrent ones, with arguments ``hidden`` and ``reset``, learn from windows or
    episodes, which may bring the states from before their steps, ``hidden_actor`` and
    ``hidden_critic`` (``transforms.hidden``).

    Source: Lillicrap et al. 2016, arXiv:1509.02971.

    Args:
        actor, actor_target, critic, critic_target: Networks, alike in pairs. Online ones begin as
            their targets are.
        optimizer: Class of the optimizers.
        criterion: Loss of a prediction and its target.
        lr_scheduler: Class of the learning rate schedulers.
        lr_scheduler_args, lr_scheduler_kwargs: Their arguments: ``((actor,), (critic,))``.
        batch_size: Transitions of an update.
        update_rate: Part of the way that target networks follow in each update.
        update_steps: Instead of that: updates after which they become the online networks.
        actor_learning_rate, critic_learning_rate: Of the optimizers.
        discount: Per step, in [0, 1].
        gradient_max: Largest norm of a gradient.
        replay_size, replay_device: Of the memory.
        replay_buffer: A memory instead: a ``Buffer`` or a ``Replay``.
        visualize, visualize_dir: Draw the graphs of the losses, once, and where.
        **__: See ``base.Options``.

    Raises:
        ValueError: An argument is out of its range, or networks are not alike.
    """

    _is_top: ClassVar[Sequence[str]] = ("actor", "critic", "actor_target", "critic_target")
    _is_restorable: ClassVar[Sequence[str]] = ("actor_target", "critic_target")
    _optimizers: ClassVar[Sequence[str]] = ("actor_optim", "critic_optim")
    _targets: ClassVar[Mapping[str, str]] = {"actor": "actor_target", "critic": "critic_target"}
    _counters: ClassVar[Sequence[str]] = ("_update_count",)
    _critics: ClassVar[Sequence[str]] = ("critic",)

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
        **__: Unpack[Options],
    ) -> None:
        super().__init__(**__)
        self._set_up(
            batch_size=batch_size,
            discount=discount,
            update_rate=update_rate,
            update_steps=update_steps,
            gradient_max=gradient_max,
            replay_size=replay_size,
            replay_device=replay_device,
            replay_buffer=replay_buffer,
            visualize=visualize,
            visualize_dir=visualize_dir,
            criterion=criterion,
        )
        self._own(
            actor=actor, actor_target=actor_target, critic=critic, critic_target=critic_target
        )
        self._optimize("actor_optim", optimizer, self._parameters["actor"], actor_learning_rate)
        self._optimize("critic_optim", optimizer, self._parameters["critic"], critic_learning_rate)
        self._set_up_more(optimizer, critic_learning_rate)
        self._schedule(
            lr_scheduler, lr_scheduler_args, lr_scheduler_kwargs,
            **{name.removesuffix("_optim"): [name] for name in self._optimizers},
        )  # fmt: skip

    actor_target: nn.Module

    def _set_up_more(self, optimizer: Any, critic_learning_rate: float) -> None:
        """What a subclass has besides."""

    # -- acting --------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, state: Mapping[str, Any], use_target: bool = False, **__: Any) -> Any:
        """The actor's actions.

        Args:
            state: Arguments of the actor by name, ``[batch, ...]``.
            use_target: By the target network.

        Returns:
            ``[batch, action_dim]``; or a tuple of it and what else the actor returned.
        """
        return safe_return(self._call_actor(state, use_target))

    @torch.no_grad()
    def act_with_noise(
        self,
        state: Mapping[str, Any],
        noise_param: Any = (0.0, 1.0),
        ratio: float = 1.0,
        mode: str = "uniform",
        use_target: bool = False,
        **__: Any,
    ) -> Any:
        """The actor's actions with noise, not clamped.

        Args:
            state: As for ``act``.
            noise_param: Of the noise: of "uniform" (min, max), "normal" (mean, std),
                "clipped_normal" (mean, std, min, max), one or as many as an action has entries;
                of "ou" a dict of arguments, or the default.
            ratio: Factor of the noise.
            mode: "uniform", "normal", "clipped_normal" or "ou".
            use_target: By the target network.

        Returns:
            As ``act``.

        Raises:
            ValueError: There is no such mode.
        """
        if mode not in _NOISES:
            raise ValueError(
                f"{type(self).__name__}.act_with_noise: Unknown noise type: mode must be one of "
                f"{', '.join(_NOISES)}, got {mode!r}"
            )
        action, *extra = self._call_actor(state, use_target)
        if mode == "ou" and not isinstance(noise_param, Mapping):
            noise_param = None  # (0, 1) is the default of other noises
        noisy = _NOISES[mode](action, noise_param, ratio)  # type: ignore[operator]
        return safe_return((noisy, *extra))

    @torch.no_grad()
    def act_discrete(
        self, state: Mapping[str, Any], use_target: bool = False, **__: Any
    ) -> tuple[Any, ...]:
        """The most probable of discrete actions.

        Args:
            state: As for ``act``.
            use_target: By the target network.

        Returns:
            Indices ``[batch, 1]``, int64, probabilities ``[batch, action_num]``, and what else the
            actor returned.

        Raises:
            ValueError: The actor does not return probabilities.
        """
        probability, *extra = self._call_actor(state, use_target)
        assert_output_is_probs(probability)
        return (probability.argmax(1, keepdim=True), probability, *extra)

    @torch.no_grad()
    def act_discrete_with_noise(
        self,
        state: Mapping[str, Any],
        use_target: bool = False,
        choose_max_prob: float = 0.95,
        **__: Any,
    ) -> tuple[Any, ...]:
        """Draws discrete actions.

        Args:
            state: As for ``act``.
            use_target: By the target network.
            choose_max_prob: With what probability the best action is drawn when the actor is
                sure of it, in (0, 1]. 1: the actor's own probabilities are used.

        Returns:
            Indices ``[batch, 1]``, int64, the probabilities that they were drawn with, ``[batch,
            action_num]``, and what else the actor returned.

        Raises:
            ValueError: The actor does not return probabilities, or ``choose_max_prob`` is out of
                its range.
        """
        if not 0 < choose_max_prob <= 1:
            raise ValueError(
                f"{type(self).__name__}.act_discrete_with_noise: choose_max_prob must be in (0, 1],"
                f" got {choose_max_prob}"
            )
        probability, *extra = self._call_actor(state, use_target)
        assert_output_is_probs(probability)
        n = probability.shape[1]
        if n > 1 and choose_max_prob < 1:
            scale = math.log((n - 1) / (1 - choose_max_prob) * choose_max_prob)
            probability = (probability * scale).softmax(1)
        return (torch.multinomial(probability, 1), probability, *extra)

    def _call_actor(self, state: Mapping[str, Any], use_target: bool) -> tuple[Any, ...]:
        return safe_call(self.actor_target if use_target else self.actor, state)

    def _act(self, state: Mapping[str, Any], use_target: bool = False, **__: Any) -> Any:
        return safe_return(self._call_actor(state, use_target))

    # -- learning ------------------------------------------------------------------------------

    def update(
        self,
        update_value: bool = True,
        update_policy: bool = True,
        update_target: bool = True,
        concatenate_samples: bool = True,
        **__: Any,
    ) -> tuple[float, float]:
        """Learns from a batch of the memory.

        Args:
            update_value: Take a step with the critic.
            update_policy: Take a step with the actor.
            update_target: Let the target networks follow.
            concatenate_samples: False: states and actions reach networks as lists.

        Returns:
            What the critic thinks of the actor's actions, in the mean, and the value loss.

        Raises:
            ValueError: The memory is empty, or a loss is not finite.
        """
        batch = self._draw(concatenate_samples)
        figures = self.learn(
            batch,
            update_value=update_value,
            update_policy=update_policy,
            update_target=update_target,
        )
        return self._reported(-figures["policy_loss"]), self._reported(figures["value_loss"])

    def learn(
        self,
        batch: Batch,
        *,
        update_value: bool = True,
        update_policy: bool = True,
        update_target: bool = True,
    ) -> Figures:
        """Learns from one batch, whoever made it; needs no memory.

        Args:
            batch: See the class. Where it has priorities, new ones are written back.
            update_value, update_policy, update_target: As for ``update``.

        Returns:
            ``policy_loss`` and ``value_loss``.

        Raises:
            ValueError: A column is missing, a shape is wrong, or a loss is not finite.
        """
        critics = [getattr(self, name) for name in self._critics]
        with self._training(self.actor, *critics):
            batch = self._warmed_up(batch)
            state = self._named(batch, "state")
            more = others(batch, ("reward", "terminated", "discount"))
            with self._precision():
                losses, error = self._value_losses(batch, state, more)
            if update_value:
                self._descend("value loss", **losses)
            self._write_back(batch, error)
            with self._precision():
                policy_loss = self._policy_loss(batch, state, more)
            self._draw_graph(policy_loss, "policy_loss")
            if update_policy and self._policy_is_due():
                self._descend("policy loss", actor=policy_loss)
            if update_target and self._policy_is_due():
                self._follow()
        value_loss = torch.stack([each.detach() for each in losses.values()]).mean()
        return {"policy_loss": policy_loss.detach(), "value_loss": value_loss}

    def _policy_is_due(self) -> bool:
        """Whether the actor, and all targets, move in this update."""
        return True

    def _value_losses(
        self, batch: Batch, state: Named, more: Named
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The loss of each critic, ``[]``, and TD errors of the batch, ``[..., 1]``."""
        action = self._action(batch)
        target = self._value_target(batch, state, action, more)
        losses, error = {}, None
        for name in self._critics:
            value = self._value(name, batch, state, action)
            goal = self._goal(value, target)
            losses[name] = self._value_loss(value, goal, batch)
            self._draw_graph(losses[name], f"{name}_loss")
            error = value.detach() - target if error is None else error
        assert error is not None
        return losses, error

    @torch.no_grad()
    def _value_target(self, batch: Batch, state: Named, action: Named, more: Named) -> Tensor:
        """What Q(s, a) should be, ``[..., 1]``."""
        next_state = self._named(batch, "next_state")
        sequences = batch.mask is not None
        steps = from_first(state, next_state) if sequences else next_state
        raw = self._applied(self.actor_target, "actor_target", batch, steps)[0]
        raw = self._smoothed(raw[1:] if sequences else raw)
        chosen = self.action_transform_function(raw, next_state, more)
        if sequences:
            chosen = from_first(action, chosen)
        names = [self._targets[name] for name in self._critics]
        values = [self._value(name, batch, steps, chosen) for name in names]
        value = min_q_value(*values)
        return self._target(batch, value[1:] if sequences else value)

    def _smoothed(self, action: Any) -> Any:
        """The target policy's actions, as they are judged."""
        return action

    def _goal(self, value: Tensor, target: Tensor) -> Tensor:
        """What a prediction is moved towards."""
        return target

    def _policy_loss(self, batch: Batch, state: Named, more: Named) -> Tensor:
        raw = self._applied(self.actor, "actor", batch, state)[0]
        action = self.action_transform_function(raw, state, more)
        value = self._value("critic", batch, state, action)
        return deterministic_policy_loss(value, self._mask(batch))

    def _value(self, name: str, batch: Batch, state: Named, action: Named) -> Tensor:
        """Q(s, a) by the critic ``name``, ``[..., 1]``."""
        value = self._applied(getattr(self, name), name, batch, state, action)[0]
        expected = [*self._leading(batch), 1]
        if batch.mask is not None:
            expected[0] = len(value)  # one more by from_first
        if list(value.shape) != expected:
            raise ValueError(
                f"{type(self).__name__}: {name} must return {expected}, got {list(value.shape)}"
            )
        return full_precision(value)

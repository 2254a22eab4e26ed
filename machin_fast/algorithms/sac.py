"""Soft actor-critic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from machin_fast.algorithms import _sequences
from machin_fast.algorithms._batches import Named, others
from machin_fast.algorithms._off_policy import ActorCritic, Memory
from machin_fast.algorithms.base import Figures, full_precision
from machin_fast.data import Batch
from machin_fast.functional import (
    discrete_soft_policy_loss,
    expected_soft_q_value,
    masked_mean,
    min_q_value,
    soft_policy_loss,
    soft_q_value,
    temperature_loss,
)
from machin_fast.model.call import safe_call

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options


class SAC(ActorCritic):
    """Soft actor-critic, with a temperature that may be learned.

    ``actor(state..., action=None)`` returns ``(action, log_prob, ...)``, the action drawn so that
    gradients flow through it. Critics ``(state..., action...)`` return ``[batch, 1]``. Recurrent
    ones, with arguments ``hidden`` and ``reset``, learn from windows or episodes, which may bring
    the states from before their steps, ``hidden_actor``, ``hidden_critic``, ``hidden_critic2``
    (``transforms.hidden``).

    With ``discrete=True`` the actor has ``distribution(state...)`` with ``log_probs``, as
    ``policies.CategoricalPolicy`` has, critics ``(state...)`` return ``[batch, action_num]``, and
    expectations over all actions are taken.

    Sources: Haarnoja et al. 2018, arXiv:1812.05905; discrete: Christodoulou 2019,
    arXiv:1910.07207; recurrent: Kapturowski et al. 2019 (R2D2).

    Args:
        actor: The policy.
        critic, critic_target, critic2, critic2_target: Networks, alike in pairs. Online ones begin
            as their targets are. ``critic2`` and its target may be None: one critic.
        optimizer: Class of the optimizers.
        criterion: Loss of a prediction and its target.
        lr_scheduler: Class of the learning rate schedulers.
        lr_scheduler_args, lr_scheduler_kwargs: Their arguments: ``((actor,), (critics,),
            (alpha,))``.
        target_entropy: What the policy's entropy should be; "auto" is minus the number of an
            action's entries, or 0.98 times the largest of discrete actions. None: the temperature
            stays.
        initial_entropy_alpha: Temperature at first, above 0.
        batch_size: Transitions of an update.
        update_rate: Part of the way that target networks follow in each update.
        update_steps: Instead of that: updates after which they become the online networks.
        actor_learning_rate, critic_learning_rate, alpha_learning_rate: Of the optimizers.
        discount: Per step, in [0, 1].
        gradient_max: Largest norm of a gradient.
        replay_size, replay_device: Of the memory.
        replay_buffer: A memory instead: a ``Buffer`` or a ``Replay``.
        visualize, visualize_dir: Draw the graphs of the losses, once, and where.
        critics: Further pairs of a critic and its target.
        discrete: See above.
        **__: See ``base.Options``.

    Attributes:
        entropy_alpha: The temperature, ``[1]``, on the networks' device.
        target_entropy: May be set at any time.

    Raises:
        ValueError: An argument is out of its range, or networks are not alike.
    """

    _is_top: ClassVar[Sequence[str]] = (
        "actor",
        "critic",
        "critic_target",
        "critic2",
        "critic2_target",
    )
    _is_restorable: ClassVar[Sequence[str]] = ("actor", "critic_target", "critic2_target")
    _optimizers: ClassVar[Sequence[str]] = (
        "actor_optim",
        "critic_optim",
        "critic2_optim",
        "alpha_optim",
    )
    _targets: ClassVar[Mapping[str, str]] = {"critic": "critic_target", "critic2": "critic2_target"}
    _counters: ClassVar[Sequence[str]] = ("_update_count", "entropy_alpha", "target_entropy")
    _config = {"update_rate": 0.001}

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        critic_target: nn.Module,
        critic2: nn.Module | None,
        critic2_target: nn.Module | None,
        optimizer: Any,
        criterion: Any,
        *_: Any,
        lr_scheduler: Any = None,
        lr_scheduler_args: Any = None,
        lr_scheduler_kwargs: Any = None,
        target_entropy: float | str | None = None,
        initial_entropy_alpha: float = 1.0,
        batch_size: int = 100,
        update_rate: float | None = 0.005,
        update_steps: int | None = None,
        actor_learning_rate: float = 0.0005,
        critic_learning_rate: float = 0.001,
        alpha_learning_rate: float = 0.001,
        discount: float = 0.99,
        gradient_max: float = math.inf,
        replay_size: int = 500000,
        replay_device: str | torch.device = "cpu",
        replay_buffer: Memory | None = None,
        visualize: bool = False,
        visualize_dir: str = "",
        critics: Sequence[tuple[nn.Module, nn.Module]] = (),
        discrete: bool = False,
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
        self._check_range(
            initial_entropy_alpha=(initial_entropy_alpha, "above 0", initial_entropy_alpha > 0)
        )
        if isinstance(target_entropy, str) and target_entropy != "auto":
            raise ValueError(
                f"SAC: target_entropy must be a number, 'auto' or None, got {target_entropy!r}"
            )
        if (critic2 is None) != (critic2_target is None):
            raise ValueError("SAC: critic2 and critic2_target must both be given, got one of them")
        pairs = [(critic, critic_target)]
        if critic2 is not None and critic2_target is not None:
            pairs.append((critic2, critic2_target))
        networks = {"actor": actor}
        for name, (online, target) in zip(
            self._name_critics(len(pairs) + len(critics)), [*pairs, *critics], strict=True
        ):
            networks.update({name: online, f"{name}_target": target})
        self._own(**networks)
        self._optimize("actor_optim", optimizer, self._parameters["actor"], actor_learning_rate)
        for name in self._critics:
            self._optimize(f"{name}_optim", optimizer, self._parameters[name], critic_learning_rate)
        self.discrete = discrete
        self.target_entropy = target_entropy
        self.entropy_alpha = torch.tensor(
            [float(initial_entropy_alpha)], device=self.device, requires_grad=True
        )
        self._parameters["alpha"] = [self.entropy_alpha]
        self._optimize("alpha_optim", optimizer, [self.entropy_alpha], alpha_learning_rate)
        self._schedule(
            lr_scheduler, lr_scheduler_args, lr_scheduler_kwargs,
            actor=["actor_optim"],
            critic=[f"{name}_optim" for name in self._critics],
            alpha=["alpha_optim"],
        )  # fmt: skip

    def _name_critics(self, count: int) -> list[str]:
        """Names critics critic, critic2, critic3, ... and with them what is an attribute."""
        names = ["critic", *(f"critic{i}" for i in range(2, count + 1))]
        pairs = {name: f"{name}_target" for name in names}
        self._critics = names
        if count != 2:
            self._is_top = ("actor", *(each for pair in pairs.items() for each in pair))  # type: ignore[misc]
            self._is_restorable = ("actor", *pairs.values())  # type: ignore[misc]
            self._optimizers = ("actor_optim", *(f"{name}_optim" for name in names), "alpha_optim")  # type: ignore[misc]
            self._targets = pairs  # type: ignore[misc]
        return names

    critic2: nn.Module
    critic2_target: nn.Module

    # -- acting --------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, state: Mapping[str, Any], **__: Any) -> tuple[Any, ...]:
        """Draws actions.

        Args:
            state: Arguments of the actor by name, ``[batch, ...]``.

        Returns:
            What the actor returned: action, log_prob, ...
        """
        return safe_call(self.actor, state)

    def _criticize2(
        self,
        state: Mapping[str, Any],
        action: Mapping[str, Any],
        use_target: bool = False,
        **__: Any,
    ) -> Any:
        return self._judged_by("critic2", state, action, use_target)

    # -- learning ------------------------------------------------------------------------------

    def update(
        self,
        update_value: bool = True,
        update_policy: bool = True,
        update_target: bool = True,
        update_entropy_alpha: bool = True,
        concatenate_samples: bool = True,
        **__: Any,
    ) -> tuple[float, float]:
        """Learns from a batch of the memory.

        Args:
            update_value: Take steps with the critics.
            update_policy: Take a step with the actor.
            update_target: Let the target networks follow.
            update_entropy_alpha: Take a step with the temperature, if there is a target entropy.
            concatenate_samples: False: states and actions reach networks as lists.

        Returns:
            The policy loss's negative, and the mean of the value losses.

        Raises:
            ValueError: The memory is empty, or a loss is not finite.
        """
        figures = self.learn(
            self._draw(concatenate_samples),
            update_value=update_value,
            update_policy=update_policy,
            update_target=update_target,
            update_entropy_alpha=update_entropy_alpha,
        )
        return self._reported(-figures["policy_loss"]), self._reported(figures["value_loss"])

    def learn(
        self,
        batch: Batch,
        *,
        update_value: bool = True,
        update_policy: bool = True,
        update_target: bool = True,
        update_entropy_alpha: bool = True,
    ) -> Figures:
        """Learns from one batch, whoever made it; needs no memory.

        Args:
            batch: See the class. Where it has priorities, new ones are written back.
            update_value, update_policy, update_target, update_entropy_alpha: As for ``update``.

        Returns:
            ``policy_loss``, ``value_loss``, ``alpha`` and ``entropy``.

        Raises:
            ValueError: A column is missing, a shape is wrong, or a loss is not finite.
        """
        networks = [self.actor, *(getattr(self, name) for name in self._critics)]
        with self._training(*networks):
            batch = self._warmed_up(batch)
            state, action = self._named(batch, "state"), self._action(batch)
            more = others(batch, ("reward", "terminated", "discount"))
            with self._precision():
                target = self._target(batch, self._next_value(batch, state, action, more))
                losses, error = self._value_losses(batch, state, action, target)
            if update_value:
                self._descend("value loss", **losses)
            self._write_back(batch, error)
            with self._precision():
                policy_loss, log_prob = self._policy_loss(batch, state, more)
            self._draw_graph(policy_loss, "policy_loss")
            if update_policy:
                self._descend("policy loss", actor=policy_loss)
            if update_entropy_alpha and self.target_entropy is not None:
                self._learn_alpha(log_prob, self._mask(batch))
            if update_target:
                self._follow()
        return {
            "policy_loss": policy_loss.detach(),
            "value_loss": torch.stack([each.detach() for each in losses.values()]).mean(),
            "alpha": self.entropy_alpha.detach().squeeze(0).clone(),
            "entropy": -masked_mean(log_prob, self._mask(batch)),
        }

    def _value_losses(
        self, batch: Batch, state: Named, action: Named, target: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The loss of each critic, ``[]``, and TD errors of the batch, ``[..., 1]``."""
        losses, errors = {}, []
        for name in self._critics:
            value = self._value(name, batch, state, action)
            if self.discrete:
                value = value.gather(-1, action["action"].long())
            losses[name] = self._value_loss(value, target, batch)
            self._draw_graph(losses[name], f"{name}_loss")
            errors.append(value.detach() - target)
        return losses, errors[0]

    @torch.no_grad()
    def _next_value(self, batch: Batch, state: Named, action: Named, more: Named) -> Tensor:
        """Soft values of what followed, ``[..., 1]``."""
        next_state = self._named(batch, "next_state")
        sequences = batch.mask is not None
        steps = _sequences.from_first(state, next_state) if sequences else next_state
        raw, log_prob = self._drawn(batch, steps)
        if sequences:
            raw, log_prob = raw[1:], log_prob[1:]
        chosen = self._chosen(raw, next_state, more)
        if sequences:
            chosen = _sequences.from_first(action, chosen)
        q = self._least([self._targets[name] for name in self._critics], batch, steps, chosen)
        q, alpha = q[1:] if sequences else q, self.entropy_alpha
        if self.discrete:
            return expected_soft_q_value(q, log_prob, alpha)
        return soft_q_value(q, log_prob, alpha)

    def _policy_loss(self, batch: Batch, state: Named, more: Named) -> tuple[Tensor, Tensor]:
        """The loss ``[]``, and log-probabilities of drawn actions, ``[..., 1]``."""
        raw, log_prob = self._drawn(batch, state)
        self._action_size = raw.shape[-1]
        alpha, mask = self.entropy_alpha.detach(), self._mask(batch)
        if self.discrete:
            with torch.no_grad():
                q = self._least(self._critics, batch, state, {})
            mean = (log_prob.exp() * log_prob).sum(-1, keepdim=True).detach()
            return discrete_soft_policy_loss(log_prob, q, alpha, mask), mean
        q = self._least(self._critics, batch, state, self._chosen(raw, state, more))
        return soft_policy_loss(log_prob, q, alpha, mask), log_prob.detach()

    def _drawn(self, batch: Batch, state: Named) -> tuple[Tensor, Tensor]:
        """Actions and their log-probabilities ``[..., 1]``; of discrete ones nothing that counts
        and the log-probabilities of all, ``[..., action_num]``."""
        if self.discrete:
            steps = state
            if batch.mask is not None:
                steps = _sequences.arguments(self.actor, "actor", batch, state)
            log_prob = safe_call(self.actor, steps, method="distribution")[0].log_probs()
            if batch.mask is not None:
                log_prob = log_prob.reshape(-1, len(batch), log_prob.shape[-1])
            return log_prob, full_precision(log_prob)
        action, log_prob, *_ = self._applied(self.actor, "actor", batch, state)
        leading = action.shape[:-1]
        if log_prob.numel() != leading.numel():
            raise ValueError(
                f"SAC: the actor must return log_prob {[*leading, 1]}, got {list(log_prob.shape)}"
            )
        return action, full_precision(log_prob.reshape(*leading, 1))

    def _chosen(self, raw: Tensor, state: Named, more: Named) -> Named:
        """Arguments of the critics for drawn actions."""
        return {} if self.discrete else self.action_transform_function(raw, state, more)

    def _least(self, names: Sequence[str], batch: Batch, state: Named, action: Named) -> Tensor:
        """The least that critics say, ``[..., 1]`` or ``[..., action_num]``."""
        return min_q_value(*(self._value(name, batch, state, action) for name in names))

    def _value(self, name: str, batch: Batch, state: Named, action: Named) -> Tensor:
        value = self._applied(getattr(self, name), name, batch, state, action)[0]
        if not self.discrete and value.shape[-1] != 1:
            raise ValueError(
                f"SAC: {name} must return {[*value.shape[:-1], 1]}, got {list(value.shape)}. "
                "For values of discrete actions pass discrete=True"
            )
        return full_precision(value)

    def _learn_alpha(self, log_prob: Tensor, mask: Tensor | None) -> None:
        loss = temperature_loss(self.entropy_alpha.log(), log_prob, self._entropy(), mask)
        self._descend("temperature loss", alpha=loss)
        with torch.no_grad():
            self.entropy_alpha.clamp_(1e-6, 1e6)

    def _entropy(self) -> float:
        """The target entropy as a number."""
        if self.target_entropy == "auto":
            n = self._action_size
            self.target_entropy = 0.98 * math.log(n) if self.discrete else -float(n)
        return float(self.target_entropy)  # type: ignore[arg-type]

"""Advantage actor-critic, and what else learns from its own policy's steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from machin_fast import ops
from machin_fast.algorithms import _sequences
from machin_fast.algorithms._episodes import trajectory_of, without_time_limit
from machin_fast.algorithms.base import Figures, TorchFramework, full_precision
from machin_fast.buffers import Buffer, PrioritizedBuffer
from machin_fast.data import Batch, Replay, Trajectory, plans, transforms
from machin_fast.data.trajectory import concat
from machin_fast.functional import entropy_loss, normalize_advantage, policy_gradient_loss
from machin_fast.model.call import safe_call
from machin_fast.model.nets.wrapper import is_recurrent

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options

# Rows of a forward without gradient.
_MANY = 1 << 16
# What learning reads besides states and actions, one number a row.
_NUMBERS = ("advantage", "value_target", "log_prob")
_GIVEN = ("state", "action", "next_state", "reward", "terminal")
# What custom attributes of Machin's transitions are called in batches.
_NAMES = {"value": "value_target", "gae": "advantage", "action_log_prob": "log_prob"}


class A2C(TorchFramework):
    """Advantage actor-critic with generalized advantage estimates.

    ``actor(state..., action=None)`` returns ``(action, log_prob, entropy, ...)``, of the action
    given, if one is; ``log_prob`` and ``entropy`` are ``[batch]`` or ``[batch, 1]``, the entropy is
    only needed with ``entropy_weight``. ``critic(state...)`` returns ``[batch, 1]``. Recurrent
    ones, with arguments ``hidden`` and ``reset``, learn from sequences; what begins within an
    episode may bring the states from before its steps, ``hidden_actor`` and ``hidden_critic``
    (``transforms.hidden``).

    Batches have ``state`` and ``action`` (or ``state/key`` and so on), ``advantage`` and
    ``value_target``: ``recipe`` adds them to a trajectory.

    Sources: Mnih et al. 2016, arXiv:1602.01783; Schulman et al. 2016, arXiv:1506.02438.

    Args:
        actor, critic: Networks.
        optimizer: Class of both optimizers.
        criterion: Loss of a target and a prediction, in this order.
        lr_scheduler: Class of the learning rate schedulers.
        lr_scheduler_args, lr_scheduler_kwargs: Their arguments: ``((actor,), (critic,))``.
        batch_size: Steps of a batch; episodes, or slices of such, with recurrent networks.
        actor_update_times, critic_update_times: Batches that each learns from in an update.
        actor_learning_rate, critic_learning_rate: Of the optimizers.
        entropy_weight: What the entropy costs: below 0 it is encouraged.
        value_weight: Factor of the value loss.
        gradient_max: Largest norm of a gradient.
        gae_lambda: Trace decay per step, in [0, 1]. 0 gives TD(0), 1 Monte Carlo.
        discount: Per step, in [0, 1].
        normalize_advantage: In each batch, to mean 0 and deviation 1.
        replay_size, replay_device: Of the memory for ``store_episode``.
        replay_buffer: A memory instead.
        visualize, visualize_dir: Draw the graphs of the losses, once, and where.
        epochs: If given, an update goes over all steps so many times, and both networks learn
            from each batch, instead of ``actor_update_times`` and ``critic_update_times``.
        **__: See ``base.Options``.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: ``replay_buffer`` is of another kind.
    """

    _is_top = ("actor", "critic")
    _is_restorable = ("actor", "critic")
    _optimizers = ("actor_optim", "critic_optim")
    # Whether batches must have the old policy's log-probabilities.
    _needs_log_prob = False

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
        **__: Unpack[Options],
    ) -> None:
        super().__init__(**__)
        self._check_range(
            batch_size=(batch_size, "at least 1", batch_size >= 1),
            discount=(discount, "in [0, 1]", 0 <= discount <= 1),
            gae_lambda=(gae_lambda, "in [0, 1]", 0 <= gae_lambda <= 1),
            gradient_max=(gradient_max, "above 0", gradient_max > 0),
            actor_update_times=(actor_update_times, "at least 0", actor_update_times >= 0),
            critic_update_times=(critic_update_times, "at least 0", critic_update_times >= 0),
        )
        if epochs is not None:
            self._check_range(epochs=(epochs, "at least 1", epochs >= 1))
        self.batch_size = batch_size
        self.actor_update_times = actor_update_times
        self.critic_update_times = critic_update_times
        self.entropy_weight = entropy_weight
        self.value_weight = value_weight
        self.grad_max = gradient_max
        self.gae_lambda = gae_lambda
        self.discount = discount
        self.normalize_advantage = normalize_advantage
        self.epochs = epochs
        self.criterion = criterion
        self.visualize = visualize
        self.visualize_dir = visualize_dir
        if isinstance(replay_buffer, PrioritizedBuffer | Replay):
            raise TypeError(
                f"{type(self).__name__}: replay_buffer must be a Buffer without priorities, which "
                f"gives all that it holds, got {type(replay_buffer).__name__}"
            )
        self.replay_buffer = (
            Buffer(replay_size, replay_device) if replay_buffer is None else replay_buffer
        )
        self._rollouts: list[Trajectory] = []
        self._own(actor=actor, critic=critic)
        self._optimize("actor_optim", optimizer, self._parameters["actor"], actor_learning_rate)
        self._optimize("critic_optim", optimizer, self._parameters["critic"], critic_learning_rate)
        self._schedule(
            lr_scheduler, lr_scheduler_args, lr_scheduler_kwargs,
            actor=["actor_optim"], critic=["critic_optim"],
        )  # fmt: skip

    actor: nn.Module
    critic: nn.Module

    # -- acting --------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, state: Mapping[str, Any], *_: Any, **__: Any) -> tuple[Any, ...]:
        """Draws actions.

        Args:
            state: Arguments of the actor by name, ``[batch, ...]``.

        Returns:
            What the actor returned: action, log_prob, entropy, ...
        """
        return safe_call(self.actor, state)

    def _eval_act(
        self, state: Mapping[str, Any], action: Mapping[str, Any], *_: Any, **__: Any
    ) -> tuple[Any, ...]:
        return safe_call(self.actor, state, action)

    def _criticize(self, state: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        return safe_call(self.critic, state)[0]

    # -- storing -------------------------------------------------------------------------------

    def store_episode(self, episode: Sequence[Any]) -> None:
        """Stores an episode, or a part of one, with the returns of its steps.

        A step with a true ``truncated`` did not terminate, even if it is terminal. What follows a
        last step that did not terminate is worth what the critic says of its ``next_state``.

        Args:
            episode: Dicts with ``state``, ``action``, ``next_state`` (of tensors ``[1, ...]`` by
                name), ``reward``, ``terminal`` and whatever else. They get items ``value``, the
                discounted return, and ``gae``, the advantage. ``Transition`` objects must have
                both.

        Raises:
            ValueError: It is empty, or a transition is not valid; nothing is stored.
        """
        if self._recurrent:
            self.store(trajectory_of([without_time_limit(step) for step in episode]))
            return
        if len(episode) and all(isinstance(step, Mapping) for step in episode):
            self._add_returns(episode)
        self.replay_buffer.store_episode(episode, required_attrs=(*_GIVEN, "value", "gae"))

    def _add_returns(self, episode: Sequence[dict[str, Any]]) -> None:
        for position, step in enumerate(episode):
            missing = [name for name in _GIVEN if name not in step]
            if missing:
                raise ValueError(
                    f"{type(self).__name__}.store_episode: Transition object missing attributes: "
                    f"{', '.join(missing)} at position {position}"
                )
        steps = [without_time_limit(step) for step in episode]
        try:
            reward = torch.tensor([float(step["reward"]) for step in steps])
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{type(self).__name__}.store_episode: reward must be one number a step: {error}"
            ) from None
        terminated = torch.tensor([bool(step["terminal"]) for step in steps])
        states = [step["state"] for step in steps]
        if not terminated[-1]:
            states.append(steps[-1]["next_state"])
        with torch.no_grad():
            value = _in_one_call(self._criticize, states)
        if value.numel() != len(states):
            raise ValueError(
                f"{type(self).__name__}.store_episode: the critic must return "
                f"{[len(states), 1]}, got {list(value.shape)}"
            )
        value = value.flatten().float().cpu()
        end = value[len(steps) :] if len(states) > len(steps) else value.new_zeros(1)
        value = value[: len(steps)]
        next_value = torch.cat([value[1:], end])
        flags = terminated, torch.zeros_like(terminated)
        bounds = torch.tensor([0, len(steps)])
        advantage, _ = ops.gae(
            reward, value, next_value, *flags,
            gamma=self.discount, lam=self.gae_lambda, bounds=bounds,
        )  # fmt: skip
        returns = ops.discounted_return(
            reward, next_value, *flags, gamma=self.discount, bounds=bounds
        )
        for step, each, gae in zip(episode, returns.tolist(), advantage.tolist(), strict=True):
            step["value"], step["gae"] = each, gae

    def store(self, trajectory: Trajectory) -> None:
        """Stores the steps of many environments at once, until the next update.

        Args:
            trajectory: With state, action, reward, and what followed the last step of each
                segment; ``log_prob`` of whoever acted, if it was another policy.

        Raises:
            ValueError: Something is missing; nothing is stored.
        """
        self._rollouts.append(self.recipe(trajectory))

    def recipe(self, trajectory: Trajectory) -> Trajectory:
        """Adds what learning needs.

        Args:
            trajectory: As for ``store``.

        Returns:
            Another one, on the networks' device, with ``value``, ``advantage`` and
            ``value_target``, and ``log_prob`` where it is needed and was not there.

        Raises:
            ValueError: Something is missing.
        """
        trajectory = trajectory.to(self.device)
        if is_recurrent(self.critic):
            trajectory = _sequences.with_values(self.critic, "critic", trajectory)
        else:
            trajectory = transforms.values(self.critic)(trajectory)
        trajectory = transforms.gae(self.discount, self.gae_lambda)(trajectory)
        return self._with_log_prob(trajectory)

    # -- learning ------------------------------------------------------------------------------

    def update(
        self,
        update_value: bool = True,
        update_policy: bool = True,
        concatenate_samples: bool = True,
        **__: Any,
    ) -> tuple[float, float]:
        """Learns from all that was stored, and forgets it.

        Args:
            update_value: Take steps with the critic.
            update_policy: Take steps with the actor.
            concatenate_samples: False: states of ``store_episode`` reach networks as lists.

        Returns:
            Means of the policy loss's negative and of the value loss.

        Raises:
            ValueError: Nothing was stored, or a loss is not finite.
        """
        data = self._collected(concatenate_samples)
        policy_losses: list[Tensor] = []
        value_losses: list[Tensor] = []
        with self._training(self.actor, self.critic):
            if self.epochs is not None:
                for batch in self._epochs(data, self.epochs):
                    figures = self._learn_both(batch, update_policy, update_value)
                    policy_losses.append(figures["policy_loss"])
                    value_losses.append(figures["value_loss"])
            else:
                for batch in self._policy_batches(data):
                    policy_losses.append(self._learn_policy(batch, update_policy)["policy_loss"])
                for batch in self._some(data, self.critic_update_times):
                    value_losses.append(self._learn_value(batch, update_value)["value_loss"])
        self._forget()
        return self._reported(-_mean(policy_losses)), self._reported(_mean(value_losses))

    def learn(
        self, batch: Batch, *, update_value: bool = True, update_policy: bool = True
    ) -> Figures:
        """Learns from one batch, whoever made it; needs no memory.

        Args:
            batch: See the class.
            update_value, update_policy: As for ``update``.

        Returns:
            ``policy_loss``, ``value_loss`` and what else the algorithm tells.

        Raises:
            ValueError: A column is missing, a shape is wrong, or a loss is not finite.
        """
        with self._training(self.actor, self.critic):
            return self._learn_both(self._warmed_up(batch), update_policy, update_value)

    def _learn_both(self, batch: Batch, update_policy: bool, update_value: bool) -> Figures:
        """One pass backwards for both networks."""
        policy_loss, figures = self._policy_terms(batch)
        value_loss = self._value_terms(batch)
        losses = {"actor": policy_loss} if update_policy else {}
        if update_value:
            losses["critic"] = value_loss
        if losses:
            self._descend("loss of policy and value", **losses)
        return {**figures, "value_loss": value_loss.detach()}

    def _learn_policy(self, batch: Batch, update: bool) -> Figures:
        loss, figures = self._policy_terms(batch)
        if update:
            self._descend("policy loss", actor=loss)
        return figures

    def _learn_value(self, batch: Batch, update: bool) -> Figures:
        loss = self._value_terms(batch)
        if update:
            self._descend("value loss", critic=loss)
        return {"value_loss": loss.detach()}

    def _policy_terms(self, batch: Batch) -> tuple[Tensor, Figures]:
        """The loss ``[]``, and figures."""
        with self._precision():
            log_prob, entropy = self._evaluated(batch)
            advantage = self._number(batch, "advantage").to(log_prob.dtype)
            mask = self._mask(batch)
            if self.normalize_advantage:
                advantage = normalize_advantage(advantage, mask)
            loss, figures = self._policy_loss(log_prob, advantage, batch, mask)
            if self.entropy_weight is not None:
                if entropy is None:
                    raise ValueError(
                        f"{type(self).__name__}: the actor must return an entropy with "
                        "entropy_weight, got none"
                    )
                # Machin's weight says what the entropy costs, not what it is worth.
                loss = loss + entropy_loss(entropy, -self.entropy_weight, mask)
        self._draw_graph(loss, "policy_loss")
        return loss, {"policy_loss": loss.detach(), **figures}

    def _policy_loss(
        self, log_prob: Tensor, advantage: Tensor, batch: Batch, mask: Tensor | None
    ) -> tuple[Tensor, Figures]:
        """The loss ``[]``, and figures, of ``[..., 1]``."""
        return policy_gradient_loss(log_prob, advantage, mask), {}

    def _value_terms(self, batch: Batch) -> Tensor:
        """The loss ``[]``."""
        with self._precision():
            value = self._values(batch)
            target = self._number(batch, "value_target").to(value.dtype)
            mask = self._mask(batch)
            if mask is not None:
                value, target = value[mask], target[mask]
            loss = self.value_weight * self.criterion(target, value)
        if loss.dim():
            raise ValueError(
                f"{type(self).__name__}: criterion must return one number, with a reduction by "
                f"'mean' or 'sum', got {list(loss.shape)}"
            )
        self._draw_graph(loss, "value_loss")
        return loss

    def _evaluated(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of a batch's actions and entropies, ``[..., 1]``."""
        state, action = self._named(batch, "state"), self._action(batch)
        leading = self._leading(batch)
        if batch.mask is None:
            found = self._eval_act(state, action)
        else:
            found = _sequences.call_steps(self.actor, "actor", batch, state, action)
        if len(found) < 2:
            raise ValueError(
                f"{type(self).__name__}: the actor must return (action, log_prob, ...), "
                f"got {len(found)} of them"
            )
        entropy = found[2] if len(found) > 2 else None
        known = [("log_prob", found[1])]
        if self.entropy_weight is not None and entropy is not None:
            known.append(("entropy", entropy))
        for name, x in known:
            if x.numel() != math.prod(leading):
                raise ValueError(
                    f"{type(self).__name__}: the actor must return {name} "
                    f"{[*leading, 1]}, got {list(x.shape)}"
                )
        numbers = [full_precision(x.reshape(*leading, 1)) for _, x in known]
        return numbers[0], numbers[1] if len(numbers) > 1 else None

    def _values(self, batch: Batch) -> Tensor:
        """V(s) of a batch, ``[..., 1]``."""
        state = self._named(batch, "state")
        if batch.mask is None:
            value = self._criticize(state)
        else:
            value = _sequences.call_steps(self.critic, "critic", batch, state)[0]
        expected = [*self._leading(batch), 1]
        if list(value.shape) != expected:
            raise ValueError(
                f"{type(self).__name__}: the critic must return {expected}, got {list(value.shape)}"
            )
        return full_precision(value)

    # -- what was stored -----------------------------------------------------------------------

    def _collected(self, concatenate: bool) -> Trajectory:
        """All that was stored, as far as learning needs it."""
        parts = [self._needed(each.columns, each.bounds) for each in self._rollouts]
        if self.replay_buffer.size():
            parts.append(self._with_log_prob(self._stored(concatenate).to(self.device)))
        if not parts:
            raise ValueError(
                f"{type(self).__name__}.update: replay_buffer must hold a transition, got none. "
                "Call store_episode first"
            )
        return concat(parts)

    def _stored(self, concatenate: bool) -> Trajectory:
        """What ``store_episode`` stored, and nothing else that was in the episodes."""
        names = [name for name in _NAMES if self._needs_log_prob or name != "action_log_prob"]
        n, found = self.replay_buffer.sample_batch(
            -1,
            concatenate,
            device=None,
            sample_method="all",
            sample_attrs=["state", "action", *names],
            additional_concat_custom_attrs=names,
        )
        assert found is not None
        state, action, *numbers = found
        columns: dict[str, Any] = {f"state/{key}": x for key, x in state.items()}
        columns.update({f"action/{key}": x for key, x in action.items()})
        for name, x in zip(names, numbers, strict=False):  # nobody need store log-probabilities
            if not isinstance(x, Tensor):
                x = torch.stack([torch.as_tensor(each).reshape(1) for each in x])
            columns[_NAMES[name]] = x
        return self._needed(columns, torch.tensor([0, n]))

    def _needed(self, columns: Mapping[str, Any], bounds: Tensor) -> Trajectory:
        """What learning reads; nobody asks what followed."""
        numbers = _NUMBERS if self._needs_log_prob else _NUMBERS[:2]
        kept: dict[str, Any] = {}
        for name, x in columns.items():
            if name in numbers:
                kept[name] = x.unsqueeze(1) if x.dim() == 1 else x
            elif name.partition("/")[0] in ("state", "action") or name.startswith("hidden"):
                kept[name] = x
        return Trajectory._of(kept, bounds, {})  # which takes lists as they are

    def _with_log_prob(self, trajectory: Trajectory) -> Trajectory:
        """With the log-probabilities of its actions by the policy as it is, if they are needed
        and nobody stored what they were."""
        if not self._needs_log_prob or "log_prob" in trajectory:
            return trajectory
        with torch.no_grad(), self._precision():
            if self._recurrent:
                log_prob = _sequences.over_segments(
                    trajectory, lambda batch: self._evaluated(batch)[0]
                )
            else:
                parts = torch.arange(len(trajectory)).split(_MANY)
                log_prob = torch.cat([self._evaluated(trajectory.rows(part))[0] for part in parts])
        return trajectory.with_columns(log_prob=log_prob)

    def _some(self, data: Trajectory, batches: int) -> Iterable[Batch]:
        """Batches of different rows, or of sequences for recurrent networks."""
        if not batches:
            return ()
        n = min(self.batch_size, data.segments if self._recurrent else len(data))
        if not self._recurrent and n == len(data):
            return itertools.repeat(Batch(data.columns, torch.arange(n), None), batches)
        if self._recurrent:
            each = plans.episodes(data, batch_size=n, epochs=batches, drop_last=True)
            return itertools.islice(each, batches)
        return plans.uniform(data, batch_size=n, batches=batches, replace=False)

    def _policy_batches(self, data: Trajectory) -> Iterable[Batch]:
        """What the actor learns from in an update without ``epochs``."""
        return self._some(data, self.actor_update_times)

    def _epochs(self, data: Trajectory, epochs: int) -> Iterable[Batch]:
        """All rows, or sequences, so many times."""
        plan = plans.episodes if self._recurrent else plans.epochs
        return plan(data, batch_size=self.batch_size, epochs=epochs)

    @property
    def _recurrent(self) -> bool:
        return any(map(is_recurrent, (self.actor, self.critic)))

    def _forget(self) -> None:
        self._rollouts.clear()
        self.replay_buffer.clear()

    def _memory_state(self) -> Any:
        return {
            "replay_buffer": self.replay_buffer.state_dict(),
            "rollouts": [
                {"columns": each.columns, "bounds": each.bounds, "final": each.final}
                for each in self._rollouts
            ],
        }

    def _set_memory_state(self, state: Any) -> None:
        self.replay_buffer.load_state_dict(state["replay_buffer"])
        self._rollouts = [
            Trajectory(each["columns"], each["bounds"], final=each["final"])
            for each in state["rollouts"]
        ]


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean() if losses else torch.zeros(())


def _in_one_call(critic: Callable[..., Tensor], states: Sequence[Mapping[str, Any]]) -> Tensor:
    """Values of states ``[1, ...]``; one by one if they differ in shape."""
    try:
        together = {
            key: torch.cat([state[key] for state in states]) if isinstance(x, Tensor) else x
            for key, x in states[0].items()
        }
    except (RuntimeError, KeyError):
        return torch.cat([critic(state) for state in states])
    return critic(together)

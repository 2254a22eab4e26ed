"""Deep Q-learning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from machin_fast.algorithms._batches import Named
from machin_fast.algorithms._off_policy import Memory, OffPolicy
from machin_fast.algorithms._sequences import call_steps, from_first
from machin_fast.algorithms.base import Figures, full_precision
from machin_fast.data import Batch
from machin_fast.functional import double_q_value, greedy_action, masked_mean, max_q_value
from machin_fast.model.call import safe_call, safe_return

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options

_MODES = ("vanilla", "fixed_target", "double")


class DQN(OffPolicy):
    """Deep Q-learning: vanilla, with a fixed target network, or double.

    ``qnet(state...)`` returns ``[batch, action_num]``; what it returns besides is returned by
    ``act_discrete``. Duelling is a choice of network. A recurrent network, with arguments
    ``hidden`` and ``reset``, learns from windows or episodes (DRQN): see ``model.nets.Recurrent``.

    Sources: Mnih et al. 2015, doi:10.1038/nature14236; van Hasselt et al. 2016, arXiv:1509.06461;
    recurrent: Hausknecht and Stone 2015, arXiv:1507.06527.

    Args:
        qnet, qnet_target: Networks that are alike. ``qnet`` begins as ``qnet_target`` is. With
            mode "vanilla" the second one is not used.
        optimizer: Class of the optimizer.
        criterion: Loss of a prediction and its target.
        lr_scheduler: Class of the learning rate scheduler.
        lr_scheduler_args, lr_scheduler_kwargs: Its arguments, one entry: ``((f,),)``.
        batch_size: Transitions of an update.
        epsilon_decay: What ``epsilon`` is multiplied with in each exploring call.
        update_rate: Part of the way that the target network follows in each update.
        update_steps: Instead of that: updates after which it becomes the online network.
        learning_rate: Of the optimizer.
        discount: Per step, in [0, 1].
        gradient_max: Largest norm of a gradient.
        replay_size, replay_device: Of the memory.
        replay_buffer: A memory instead: a ``Buffer`` or a ``Replay``.
        mode: "vanilla", "fixed_target" or "double".
        visualize, visualize_dir: Draw the graph of the loss, once, and where.
        **__: See ``base.Options``.

    Attributes:
        epsilon: Share of random actions in ``act_discrete_with_noise``.

    Raises:
        ValueError: An argument is out of its range, or networks are not alike.
    """

    _is_top = ("qnet", "qnet_target")
    _is_restorable = ("qnet_target",)
    _optimizers = ("qnet_optim",)
    _targets = {"qnet": "qnet_target"}
    _counters = ("epsilon", "_update_count")

    def __init__(
        self,
        qnet: nn.Module,
        qnet_target: nn.Module,
        optimizer: Any,
        criterion: Any,
        *_: Any,
        lr_scheduler: Any = None,
        lr_scheduler_args: Any = None,
        lr_scheduler_kwargs: Any = None,
        batch_size: int = 100,
        epsilon_decay: float = 0.9999,
        update_rate: float | None = 0.005,
        update_steps: int | None = None,
        learning_rate: float = 0.001,
        discount: float = 0.99,
        gradient_max: float = math.inf,
        replay_size: int = 500000,
        replay_device: str | torch.device = "cpu",
        replay_buffer: Memory | None = None,
        mode: str = "double",
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
        self._check_range(
            epsilon_decay=(epsilon_decay, "in (0, 1]", 0 < epsilon_decay <= 1),
        )
        self.mode = mode
        self._check_mode()
        self.epsilon = 1.0
        self.epsilon_decay = epsilon_decay
        self._own(qnet=qnet, qnet_target=qnet if mode == "vanilla" else qnet_target)
        self._optimize("qnet_optim", optimizer, self._parameters["qnet"], learning_rate)
        self._schedule(lr_scheduler, lr_scheduler_args, lr_scheduler_kwargs, qnet=["qnet_optim"])

    qnet: nn.Module
    qnet_target: nn.Module

    # -- acting --------------------------------------------------------------------------------

    @torch.no_grad()
    def act_discrete(self, state: Mapping[str, Any], use_target: bool = False, **__: Any) -> Any:
        """The best actions.

        Args:
            state: Arguments of the network by name, ``[batch, ...]``. ``action_mask``, ``[batch,
                action_num]`` bool, says which actions there are.
            use_target: By the target network.

        Returns:
            ``[batch, 1]``, int64; or a tuple of it and what else the network returned.
        """
        q, *extra = self._evaluate(state, use_target)
        mask = self._here(state.get("action_mask"))
        return safe_return((greedy_action(q, mask), *extra))

    @torch.no_grad()
    def act_discrete_with_noise(
        self,
        state: Mapping[str, Any],
        use_target: bool = False,
        decay_epsilon: bool = True,
        **__: Any,
    ) -> Any:
        """The best actions, each replaced by a random one with probability ``epsilon``.

        Args:
            state: As for ``act_discrete``.
            use_target: By the target network.
            decay_epsilon: Multiply ``epsilon`` with ``epsilon_decay`` afterwards.

        Returns:
            As ``act_discrete``.
        """
        q, *extra = self._evaluate(state, use_target)
        mask = self._here(state.get("action_mask"))
        action = greedy_action(q, mask)
        if self.epsilon > 0:
            any_action = greedy_action(torch.rand_like(q, dtype=torch.float32), mask)
            explore = torch.rand(action.shape, device=action.device) < self.epsilon
            action = torch.where(explore, any_action, action)
        if decay_epsilon:
            self.epsilon *= self.epsilon_decay
        return safe_return((action, *extra))

    def _evaluate(self, state: Mapping[str, Any], use_target: bool) -> tuple[Any, ...]:
        """Q(s, a), ``[batch, action_num]``, and what else the network returns."""
        return safe_call(self.qnet_target if use_target else self.qnet, state)

    def _criticize(self, state: Mapping[str, Any], use_target: bool = False, **__: Any) -> Any:
        return safe_call(self.qnet_target if use_target else self.qnet, state)[0]

    # -- learning ------------------------------------------------------------------------------

    @staticmethod
    def action_get_function(sampled_actions: Mapping[str, Any]) -> Tensor:
        """The indices of actions among what was stored; may be replaced.

        Args:
            sampled_actions: Stored actions by name.

        Returns:
            ``[batch, 1]``, integers.
        """
        return sampled_actions["action"]

    def update(
        self,
        update_value: bool = True,
        update_target: bool = True,
        concatenate_samples: bool = True,
        **__: Any,
    ) -> float:
        """Learns from a batch of the memory.

        Args:
            update_value: Take a step with the network.
            update_target: Let the target network follow.
            concatenate_samples: False: states reach the network as lists.

        Returns:
            The value loss.

        Raises:
            ValueError: The memory is empty, or the loss is not finite; nothing is changed then.
        """
        batch = self._draw(concatenate_samples)
        figures = self.learn(batch, update_value=update_value, update_target=update_target)
        return self._reported(figures["value_loss"])

    def learn(
        self, batch: Batch, *, update_value: bool = True, update_target: bool = True
    ) -> Figures:
        """Learns from one batch, whoever made it; needs no memory.

        Args:
            batch: See the class. Where it has priorities, the sizes of its TD errors are written
                back.
            update_value, update_target: As for ``update``.

        Returns:
            ``value_loss`` and ``value``, the mean prediction.

        Raises:
            ValueError: A column is missing, a shape is wrong, or the loss is not finite.
        """
        self._check_mode()
        with self._training(self.qnet):
            batch = self._warmed_up(batch)
            with self._precision():
                loss, error, value = self._losses(batch)
            self._draw_graph(loss, "value_loss")
            if update_value:
                self._descend("value loss", qnet=loss)
            self._write_back(batch, error)
            if update_target:
                self._follow()
        mean = masked_mean(value.detach(), self._mask(batch))
        return {"value_loss": loss.detach(), "value": mean}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The loss ``[]``, and of each row the error and the prediction, ``[..., 1]``."""
        state, next_state = self._named(batch, "state"), self._named(batch, "next_state")
        action = self._taken(batch)
        next_q = judge = None
        if batch.mask is None:
            q = self._q(self.qnet, state)
            with torch.no_grad():
                if self.mode != "fixed_target":
                    next_q = self._q(self.qnet, next_state)
                if self.mode != "vanilla":
                    judge = self._q(self.qnet_target, next_state)
        else:
            whole = from_first(state, next_state)
            q, next_q = _now_and_next(call_steps(self.qnet, "qnet", batch, whole)[0])
            with torch.no_grad():
                _, judge = _now_and_next(
                    call_steps(self.qnet_target, "qnet_target", batch, whole)[0]
                )
        value = full_precision(q.gather(-1, action))
        with torch.no_grad():
            next_value = self._next_value(next_q, judge, self._whole(next_state.get("action_mask")))
        target = self._target(batch, next_value)
        return self._value_loss(value, target, batch), value - target, value

    def _taken(self, batch: Batch) -> Tensor:
        """Indices of the actions, ``[..., 1]``, int64."""
        return self._whole(self.action_get_function(self._action(batch))).long()

    def _whole(self, value: Any) -> Any:
        """What is not an input of the network, joined if it was drawn as a list."""
        return self._here(torch.cat(value) if isinstance(value, list) else value)

    def _next_value(
        self, next_q: Tensor | None, judge: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """V(s') by the rule that ``mode`` names, of Q(s', a) by both networks."""
        choose = judge if self.mode == "fixed_target" else next_q
        assert choose is not None
        leading = choose.shape[:-1]
        choose = choose.flatten(0, -2)
        mask = None if mask is None else mask.flatten(0, -2)
        if self.mode == "double":
            assert judge is not None
            value = double_q_value(choose, judge.flatten(0, -2), mask)
        else:
            value = max_q_value(choose, mask)
        return value.view(*leading, 1)

    def _q(self, network: nn.Module, state: Named) -> Tensor:
        q = safe_call(network, state)[0]
        if q.dim() != 2:
            raise ValueError(
                f"{type(self).__name__}: the network must return [batch, action_num], "
                f"got {list(q.shape)}"
            )
        return q

    def _check_mode(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(
                f"{type(self).__name__}: Unknown DQN mode: mode must be one of "
                f"{', '.join(_MODES)}, got {self.mode!r}"
            )


def _now_and_next(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Of T + 1 steps, the first T and, without gradient, those that follow each."""
    return steps[:-1], steps[1:].detach()

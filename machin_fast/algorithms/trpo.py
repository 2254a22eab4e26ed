"""Trust region policy optimization."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from machin_fast.algorithms import _sequences
from machin_fast.algorithms._batches import Named
from machin_fast.algorithms.a2c import A2C
from machin_fast.algorithms.base import Figures, warn_unknown
from machin_fast.buffers import Buffer
from machin_fast.data import Batch, Trajectory, plans
from machin_fast.functional import (
    fisher_vector_product,
    flatten_tensors,
    hard_update_,
    information_vector_product,
    line_search,
    masked_mean,
    natural_gradient_step,
    normalize_advantage,
    surrogate_loss,
    unflatten_tensors,
)
from machin_fast.functional.curvature import Product
from machin_fast.model.call import inside, safe_call
from machin_fast.model.nets.wrapper import is_recurrent

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from machin_fast.algorithms.base import Options


class TRPO(A2C):
    """Trust region policy optimization.

    The actor takes one step an update, over all that was stored: along the natural gradient, so
    far that the mean divergence from the old policy is at most ``kl_max_delta`` and the loss falls.
    It is one of ``model.algorithms.trpo``, or a policy with ``distribution`` as those of
    ``machin_fast.policies`` are. The critic learns as with ``A2C``.

    Source: Schulman et al. 2015, arXiv:1502.05477.

    Args:
        actor, critic, optimizer, criterion, *_, **__: As for ``A2C``.
        actor_learning_rate, entropy_weight: Not used, nor is ``gradient_max`` for the actor.
        kl_max_delta: Largest mean divergence.
        damping: Added to the diagonal of the Fisher information.
        line_search_backtracks: Halvings of the step to try.
        conjugate_eps: Not used: a direction without curvature is left alone.
        conjugate_iterations: Of the conjugate gradient method.
        conjugate_res_threshold: Squared residual at which it stops.
        hv_mode: "fim" multiplies with the Fisher information of the distribution, where the actor
            has ``get_fim``; anything else differentiates the divergence twice.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: The actor is of another kind.
    """

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
        critic_update_times: int = 10,
        actor_learning_rate: float = 0.003,
        critic_learning_rate: float = 0.001,
        entropy_weight: float | None = None,
        value_weight: float = 0.5,
        gradient_max: float = math.inf,
        gae_lambda: float = 1.0,
        discount: float = 0.99,
        normalize_advantage: bool = True,
        kl_max_delta: float = 0.01,
        damping: float = 0.1,
        line_search_backtracks: int = 10,
        conjugate_eps: float = 1e-8,
        conjugate_iterations: int = 10,
        conjugate_res_threshold: float = 1e-10,
        hv_mode: str = "fim",
        replay_size: int = 500000,
        replay_device: str | torch.device = "cpu",
        replay_buffer: Buffer | None = None,
        visualize: bool = False,
        visualize_dir: str = "",
        **__: Unpack[Options],
    ) -> None:
        options: dict[str, Any] = dict(__)
        others = {name for name in ("actor_update_times", "epochs") if name in options}
        warn_unknown("TRPO", others)  # what A2C takes, but the actor takes one step
        super().__init__(
            actor,
            critic,
            optimizer,
            criterion,
            lr_scheduler=lr_scheduler,
            lr_scheduler_args=lr_scheduler_args,
            lr_scheduler_kwargs=lr_scheduler_kwargs,
            batch_size=batch_size,
            actor_update_times=1,
            critic_update_times=critic_update_times,
            actor_learning_rate=actor_learning_rate,
            critic_learning_rate=critic_learning_rate,
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
            **{name: value for name, value in options.items() if name not in others},
        )
        self._check_range(
            kl_max_delta=(kl_max_delta, "above 0", kl_max_delta > 0),
            damping=(damping, "at least 0", damping >= 0),
        )
        module = inside(actor)
        if not hasattr(module, "distribution") and not hasattr(module, "get_kl"):
            raise TypeError(
                "TRPO: actor must be one of model.algorithms.trpo, or have a method distribution "
                f"as policies have, got {type(module).__name__}"
            )
        self.kl_max_delta = kl_max_delta
        self.damping = damping
        self.line_search_backtracks = line_search_backtracks
        self.conjugate_eps = conjugate_eps
        self.conjugate_iterations = conjugate_iterations
        self.conjugate_res_threshold = conjugate_res_threshold
        self.hv_mode = hv_mode

    def _policy_batches(self, data: Trajectory) -> Iterable[Batch]:
        if self._recurrent:
            return plans.episodes(data, batch_size=data.segments, shuffle=False)
        return plans.full(data)

    def _learn_both(self, batch: Batch, update_policy: bool, update_value: bool) -> Figures:
        policy = self._learn_policy(batch, update_policy)
        return policy | self._learn_value(batch, update_value)

    def _learn_policy(self, batch: Batch, update: bool) -> Figures:
        mask = self._mask(batch)
        parameters = [x for x in self._parameters["actor"] if x.requires_grad]
        advantage = self._number(batch, "advantage")
        if self.normalize_advantage:
            advantage = normalize_advantage(advantage, mask)
        old = self._number(batch, "log_prob")

        def loss_now() -> Tensor:
            return surrogate_loss(self._evaluated(batch)[0], old, advantage, mask)

        loss = loss_now()
        self._draw_graph(loss, "policy_loss")
        self._check_finite(loss, "policy loss")
        figures = {"policy_loss": loss.detach()}
        if not update:
            return figures
        gradient = flatten_tensors(torch.autograd.grad(loss, parameters, materialize_grads=True))
        divergence = self._divergence(batch, parameters)
        step = natural_gradient_step(
            gradient,
            divergence.product(self.damping),
            self.kl_max_delta,
            self.conjugate_iterations,
            self.conjugate_res_threshold,
        )
        before = flatten_tensors(parameters).detach()
        kl = torch.zeros_like(loss)

        @torch.no_grad()
        def evaluate(part: float) -> tuple[Tensor, Tensor]:
            nonlocal kl
            hard_update_(parameters, unflatten_tensors(before + part * step, parameters))
            kl = divergence.from_old()
            return loss_now(), kl

        part = line_search(
            evaluate,
            loss.detach(),
            -gradient.dot(step),
            self.kl_max_delta,
            self.line_search_backtracks,
        )
        if not part:
            hard_update_(parameters, unflatten_tensors(before, parameters))
            kl = torch.zeros_like(loss)
        return {**figures, "kl": kl.detach()}

    def _divergence(self, batch: Batch, parameters: list[Tensor]) -> _OfPolicy | _OfActor:
        state, mask = self._named(batch, "state"), batch.mask
        if mask is not None and is_recurrent(self.actor):
            state = _sequences.arguments(self.actor, "actor", batch, state)
        elif mask is not None:
            state = {key: x[mask.to(x.device)] for key, x in state.items()}
            mask = None
        if not hasattr(inside(self.actor), "distribution"):
            return _OfActor(self.actor, state, parameters, self.hv_mode == "fim")
        real = None if mask is None else self._mask(batch)
        return _OfPolicy(self.actor, state, parameters, real)

    # -- Machin's helpers ----------------------------------------------------------------------

    @staticmethod
    def get_flat_params(model: nn.Module) -> Tensor:
        """All parameters of a model, ``[n]``, a copy without gradient."""
        return flatten_tensors(model.parameters()).detach()

    @staticmethod
    def set_flat_params(model: nn.Module, flat_params: Tensor) -> None:
        """Sets all parameters of a model from ``[n]``."""
        parameters = list(model.parameters())
        hard_update_(parameters, unflatten_tensors(flat_params, parameters))

    @staticmethod
    def get_flat_grad(
        output: Tensor,
        parameters: Iterable[Tensor],
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> Tensor:
        """The gradient of ``output``, ``[]``, by parameters: ``[n]``."""
        return flatten_tensors(
            torch.autograd.grad(
                output,
                list(parameters),
                retain_graph=retain_graph or create_graph,
                create_graph=create_graph,
                materialize_grads=True,
            )
        )


class _OfPolicy:
    """How far one of our policies has gone from what it was when this was made."""

    def __init__(
        self, actor: nn.Module, state: Named, parameters: list[Tensor], mask: Tensor | None
    ) -> None:
        self._actor, self._state, self._parameters, self._mask = actor, state, parameters, mask
        self._now = self._distribution()
        # A copy: deviations may be parameters, which change in place.
        self._old = copy.deepcopy(self._now.detach())

    def product(self, damping: float) -> Product:
        """The Fisher information plus ``damping`` times identity, as a function of vectors."""
        kl = masked_mean(self._old.kl(self._now), self._mask)
        return fisher_vector_product(kl, self._parameters, damping)

    def from_old(self) -> Tensor:
        """Mean KL(old || now), ``[]``."""
        return masked_mean(self._old.kl(self._distribution()), self._mask)

    def _distribution(self) -> Any:
        return safe_call(self._actor, self._state, method="distribution")[0]


class _OfActor:
    """The same of one of Machin's actors."""

    def __init__(self, actor: nn.Module, state: Named, parameters: list[Tensor], fim: bool) -> None:
        self._actor, self._state, self._parameters = actor, state, parameters
        self._fim = fim and hasattr(inside(actor), "get_fim")
        self._old = flatten_tensors(inside(actor).parameters()).detach()

    def product(self, damping: float) -> Product:
        """The Fisher information plus ``damping`` times identity, as a function of vectors."""
        if not self._fim:
            kl = safe_call(self._actor, self._state, method="get_kl")[0].mean()
            return fisher_vector_product(kl, self._parameters, damping)
        diagonal, of_policy = safe_call(self._actor, self._state, method="get_fim")
        batch = len(next(iter(self._state.values())))
        return information_vector_product(diagonal / batch, of_policy, self._parameters, damping)

    def from_old(self) -> Tensor:
        """Mean KL(old || now), ``[]``."""
        known = {"params": self._old, **self._state}
        return torch.as_tensor(safe_call(self._actor, known, method="compare_kl")[0])

"""Base classes of actors for trust region policy optimization.

A subclass computes parameters of its distribution in ``forward`` and returns what ``sample``
returns. From them come the divergences and the Fisher information that TRPO asks for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Normal, kl_divergence
from torch.func import functional_call

from machin_fast.model.call import signature
from machin_fast.model.nets.base import NeuralNetworkModule

Policy = TypeVar("Policy", bound=Distribution)


class _Actor(NeuralNetworkModule, Generic[Policy]):
    """What actors of all distributions share.

    Its methods take what ``forward`` takes; keyword arguments that it does not take are dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        # What ``sample`` saw, in methods that ask for it. It is not kept, since a module that
        # holds a graph cannot be copied.
        self._seen: list[Policy] | None = None

    def get_kl(self, *args: Any, **kwargs: Any) -> Tensor:
        """Divergence of the policy from itself: 0, but its second derivative is not.

        Source: Schulman et al. 2015, arXiv:1502.05477, appendix C.1.

        Args:
            *args, **kwargs: Of ``forward``.

        Returns:
            ``[batch, 1]``, KL(policy || policy), where the first one carries no gradient.
        """
        policy = self._policy(args, kwargs)
        return self._divergence(self._detached(policy), policy)

    @torch.no_grad()
    def compare_kl(self, params: Tensor, *args: Any, **kwargs: Any) -> float:
        """Divergence of the policy from the one with other parameters.

        Source: Schulman et al. 2015, arXiv:1502.05477, equation 12.

        Args:
            params: ``[n]``, all parameters of the other one, in the order of ``parameters()``.
            *args, **kwargs: Of ``forward``.

        Returns:
            KL(other || policy), mean of the batch.

        Raises:
            ValueError: ``params`` has another shape.
        """
        other = self._policy(args, kwargs, self._named(params))
        return self._divergence(other, self._policy(args, kwargs)).mean().item()

    @abstractmethod
    def get_fim(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Fisher information of the distribution in its own parameters, a diagonal matrix.

        With J the Jacobian of ``parameters`` in those of the network, ``J^T diagonal J`` divided
        by the batch size is the second derivative of the mean divergence.

        Args:
            *args, **kwargs: Of ``forward``.

        Returns:
            diagonal: ``[n]``, carries no gradient.
            parameters: ``[n]``, of the distributions of the whole batch.
        """

    @abstractmethod
    def _divergence(self, old: Policy, new: Policy) -> Tensor:
        """KL(old || new), ``[batch, 1]``."""

    @abstractmethod
    def _detached(self, policy: Policy) -> Policy:
        """The same one without gradient."""

    def _see(self, policy: Policy) -> Policy:
        if self._seen is not None:
            self._seen.append(policy)
        return policy

    def _policy(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        parameters: Mapping[str, Tensor] | None = None,
    ) -> Policy:
        names, _ = signature(self.forward)
        taken = {name: kwargs[name] for name in kwargs if names is None or name in names}
        seen = self._seen = []
        try:
            functional_call(self, dict(parameters or {}), args, taken)
        finally:
            self._seen = None
        if not seen:
            raise RuntimeError(f"{type(self).__name__}: forward must call sample, got no call")
        return seen[-1]

    def _named(self, params: Tensor) -> dict[str, Tensor]:
        named = dict(self.named_parameters())
        sizes = [parameter.numel() for parameter in named.values()]
        if list(params.shape) != [sum(sizes)]:
            raise ValueError(
                f"{type(self).__name__}.compare_kl: params must have shape [{sum(sizes)}], "
                f"got {list(params.shape)}"
            )
        parts = zip(named.items(), params.split(sizes), strict=True)
        return {name: part.view_as(parameter) for (name, parameter), part in parts}


class ActorDiscrete(_Actor[Categorical]):
    """An actor that chooses one of several actions."""

    def sample(self, probability: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Chooses actions, or judges those given; to be called by ``forward``.

        Args:
            probability: ``[batch, action_num]``, of each action, such as a softmax gives.
            action: ``[batch, 1]`` or ``[batch]``, to be judged. None: draw them.

        Returns:
            action: ``[batch, 1]``, int64 if drawn.
            log_prob: ``[batch, 1]``, of the actions. Differentiable.

        Raises:
            ValueError: A shape is another one, or ``probability`` is none.
        """
        op = f"{type(self).__name__}.sample"
        if probability.dim() != 2:
            raise ValueError(
                f"{op}: probability must be [batch, action_num], got {list(probability.shape)}"
            )
        batch = len(probability)
        if action is not None and list(action.shape) not in ([batch, 1], [batch]):
            raise ValueError(f"{op}: action must have shape [{batch}, 1], got {list(action.shape)}")
        policy = self._see(Categorical(probs=probability))
        flat = policy.sample() if action is None else action.flatten()
        return flat.view(batch, 1), policy.log_prob(flat).view(batch, 1)

    def get_fim(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """``1 / p`` of each probability.

        Source: Tomczak 2012, Fisher information matrix for Gaussian and categorical
        distributions.

        Args:
            *args, **kwargs: Of ``forward``.

        Returns:
            diagonal: ``[batch * action_num]``, carries no gradient.
            parameters: ``[batch * action_num]``, the probabilities.
        """
        probability = self._policy(args, kwargs).probs.flatten()
        # A probability of 0 does not move, and what it would be multiplied with is 0.
        tiny = torch.finfo(probability.dtype).tiny
        return 1 / probability.detach().clamp(min=tiny), probability

    def _divergence(self, old: Categorical, new: Categorical) -> Tensor:
        return kl_divergence(old, new).unsqueeze(1)

    def _detached(self, policy: Categorical) -> Categorical:
        return Categorical(probs=policy.probs.detach())


class ActorContinuous(_Actor[Normal]):
    """An actor whose actions are normal around a mean, with deviations that do not depend on state.

    Args:
        action_dim: Entries of an action.
        log_std: Logarithm of the standard deviation at first.

    Attributes:
        action_log_std: ``[1, action_dim]``, a parameter.
    """

    def __init__(self, action_dim: int, log_std: float = 0) -> None:
        super().__init__()
        self.action_log_std = nn.Parameter(torch.full((1, action_dim), float(log_std)))

    def sample(self, mean: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws actions, or judges those given; to be called by ``forward``.

        Args:
            mean: ``[batch, action_dim]``.
            action: Like ``mean``, to be judged. None: draw them.

        Returns:
            action: ``[batch, action_dim]``; carries no gradient if drawn.
            log_prob: ``[batch, 1]``, of the actions. Differentiable.

        Raises:
            ValueError: A shape is another one.
        """
        op = f"{type(self).__name__}.sample"
        dim = self.action_log_std.shape[1]
        if mean.dim() != 2 or mean.shape[1] != dim:
            raise ValueError(f"{op}: mean must be [batch, {dim}], got {list(mean.shape)}")
        if action is not None and action.shape != mean.shape:
            raise ValueError(
                f"{op}: action must have shape {list(mean.shape)}, got {list(action.shape)}"
            )
        policy = self._see(Normal(mean, self.action_log_std.exp()))
        if action is None:
            action = policy.sample()
        return action, policy.log_prob(action).sum(1, keepdim=True)

    def get_fim(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """``1 / std^2`` of each mean, and 2 of each logarithm of a standard deviation.

        Source: Tomczak 2012, Fisher information matrix for Gaussian and categorical
        distributions; here in the logarithm of the deviation.

        Args:
            *args, **kwargs: Of ``forward``.

        Returns:
            diagonal: ``[batch * 2 * action_dim]``, carries no gradient.
            parameters: ``[batch * 2 * action_dim]``, means and logarithms of each step.
        """
        policy = self._policy(args, kwargs)
        of_mean = policy.scale.detach() ** -2
        diagonal = torch.cat([of_mean, torch.full_like(of_mean, 2)], 1)
        parameters = torch.cat([policy.loc, self.action_log_std.expand_as(policy.loc)], 1)
        return diagonal.flatten(), parameters.flatten()

    def _divergence(self, old: Normal, new: Normal) -> Tensor:
        return kl_divergence(old, new).sum(1, keepdim=True)

    def _detached(self, policy: Normal) -> Normal:
        return Normal(policy.loc.detach(), policy.scale.detach())

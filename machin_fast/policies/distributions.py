"""Distributions of actions, as light objects over the formulas of ``functional``.

All take extra leading dimensions, and give numbers of an action as ``[..., 1]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from machin_fast import functional as formulas
from machin_fast.policies.squash import squash, unsquash

Self = TypeVar("Self", bound="Distribution")


class Distribution(ABC):
    """What a policy makes of states."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Draws actions, ``[..., action_dim]``; they carry no gradient."""

    def rsample(self) -> Tensor:
        """Draws actions ``[..., action_dim]`` through which gradients flow.

        Raises:
            NotImplementedError: These cannot be drawn so.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.rsample: self must be reparameterised, "
            f"got {type(self).__name__}. Use sample"
        )

    @abstractmethod
    def mode(self) -> Tensor:
        """The action to take when nothing is left to chance, ``[..., action_dim]``."""

    @abstractmethod
    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability or log-density of actions ``[..., action_dim]``: ``[..., 1]``.

        Raises:
            ValueError: The actions have another shape.
            TypeError: They have another dtype.
        """

    @abstractmethod
    def entropy(self) -> Tensor:
        """In nats, ``[..., 1]``. Differentiable."""

    def kl(self: Self, other: Self) -> Tensor:
        """KL(self || other), in nats, ``[..., 1]``. Differentiable in both.

        Raises:
            TypeError: The other one is of another kind.
            ValueError: It has another shape.
        """
        name = type(self).__name__
        if type(other) is not type(self):
            raise TypeError(f"{name}.kl: other must be a {name}, got {type(other).__name__}")
        return self._kl(other).unsqueeze(-1)

    @abstractmethod
    def _kl(self: Self, other: Self) -> Tensor:
        """``[...]``."""

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """An action, its log-probability and the entropy, as an actor returns them."""
        action = self.sample()
        return action, self.log_prob(action), self.entropy()

    @abstractmethod
    def detach(self: Self) -> Self:
        """The same one without gradient."""


class Categorical(Distribution):
    """One choice of several; an action is its number, ``[..., 1]``, int64.

    Args:
        logits: ``[..., actions]``. May be -inf.
        action_mask: Like ``logits``, bool: which actions there are. None: all.
    """

    def __init__(self, logits: Tensor, action_mask: Tensor | None = None) -> None:
        self.logits = logits
        self.action_mask = action_mask

    def log_probs(self) -> Tensor:
        """Log-probabilities of all actions, ``[..., actions]``."""
        return formulas.masked_log_softmax(self.logits, self.action_mask)

    def sample(self) -> Tensor:
        # A race: who has rate p is first with probability p. As torch.multinomial does it, whose
        # checks take twice as long as all this.
        probability = self.log_probs().detach().exp()
        time = torch.empty_like(probability).exponential_()
        return (probability / time).argmax(-1, keepdim=True)

    def mode(self) -> Tensor:
        return self.log_probs().argmax(-1, keepdim=True)

    def log_prob(self, action: Tensor) -> Tensor:
        _check_action("Categorical", action, [*self.logits.shape[:-1], 1])
        choice = action.squeeze(-1)
        return formulas.categorical_log_prob(self.logits, choice, self.action_mask).unsqueeze(-1)

    def entropy(self) -> Tensor:
        return formulas.categorical_entropy(self.logits, self.action_mask).unsqueeze(-1)

    def _kl(self, other: Categorical) -> Tensor:
        return formulas.categorical_kl(self.logits, other.logits, self.action_mask)

    def detach(self) -> Categorical:
        return Categorical(self.logits.detach(), self.action_mask)


class MultiCategorical(Distribution):
    """Several independent choices at once; an action is ``[..., len(sizes)]``, int64.

    Args:
        logits: ``[..., sum(sizes)]``, those of all choices one after the other. May be -inf.
        sizes: Number of actions of each choice.
        action_mask: Like ``logits``, bool: which actions there are. None: all.
    """

    def __init__(
        self, logits: Tensor, sizes: Sequence[int], action_mask: Tensor | None = None
    ) -> None:
        self.logits = logits
        self.sizes = tuple(sizes)
        self.action_mask = action_mask

    def _each(self, action_of: Callable[[Categorical], Tensor]) -> Tensor:
        logits = self.logits.split(self.sizes, -1)
        if self.action_mask is None:
            parts = [Categorical(each) for each in logits]
        else:
            masks = self.action_mask.split(self.sizes, -1)
            parts = [Categorical(*pair) for pair in zip(logits, masks, strict=True)]
        return torch.cat([action_of(part) for part in parts], -1)

    def sample(self) -> Tensor:
        return self._each(Categorical.sample)

    def mode(self) -> Tensor:
        return self._each(Categorical.mode)

    def log_prob(self, action: Tensor) -> Tensor:
        found = formulas.multi_categorical_log_prob(
            self.logits, self.sizes, action, self.action_mask
        )
        return found.unsqueeze(-1)

    def entropy(self) -> Tensor:
        found = formulas.multi_categorical_entropy(self.logits, self.sizes, self.action_mask)
        return found.unsqueeze(-1)

    def _kl(self, other: MultiCategorical) -> Tensor:
        return formulas.multi_categorical_kl(
            self.logits, other.logits, self.sizes, self.action_mask
        )

    def detach(self) -> MultiCategorical:
        return MultiCategorical(self.logits.detach(), self.sizes, self.action_mask)


class Gaussian(Distribution):
    """A Gaussian whose dimensions are independent.

    Args:
        mean: ``[..., action_dim]``.
        log_std: Logarithm of the deviation; broadcast to ``mean``.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std.expand_as(mean)

    def sample(self) -> Tensor:
        with torch.no_grad():
            return self.rsample()

    def rsample(self) -> Tensor:
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        return formulas.gaussian_log_prob(self.mean, self.log_std, action).unsqueeze(-1)

    def entropy(self) -> Tensor:
        return formulas.gaussian_entropy(self.log_std).unsqueeze(-1)

    def _kl(self, other: Gaussian) -> Tensor:
        return formulas.gaussian_kl(self.mean, self.log_std, other.mean, other.log_std)

    def detach(self) -> Gaussian:
        return Gaussian(self.mean.detach(), self.log_std.detach())


class TanhGaussian(Distribution):
    """A Gaussian squashed into [low, high] by tanh.

    Its entropy has no closed form: ``entropy`` estimates it by one action, with a gradient whose
    mean is right. Divergences are those between the Gaussians, exact for equal bounds.

    Args:
        mean: ``[..., action_dim]``, of the Gaussian.
        log_std: Logarithm of its deviation; broadcast to ``mean``.
        low, high: ``[action_dim]`` or ``[]``, bounds of actions. None: -1 and 1.
    """

    def __init__(
        self,
        mean: Tensor,
        log_std: Tensor,
        low: Tensor | None = None,
        high: Tensor | None = None,
    ) -> None:
        self.mean = mean
        self.log_std = log_std.expand_as(mean)
        self.low = mean.new_full((), -1) if low is None else low
        self.high = mean.new_full((), 1) if high is None else high

    def sample(self) -> Tensor:
        with torch.no_grad():
            return self.rsample()

    def rsample(self) -> Tensor:
        return squash(self._pre_tanh(), self.low, self.high)

    def mode(self) -> Tensor:
        """The squashed mean: the action that half of all lie below, in each dimension."""
        return squash(self.mean, self.low, self.high)

    def log_prob(self, action: Tensor) -> Tensor:
        return self._log_prob(unsquash(action, self.low, self.high))

    def entropy(self) -> Tensor:
        return -self._log_prob(self._pre_tanh())

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """An action that carries gradients, its log-probability, exact even where the action is
        rounded to a bound, and the negative of that for entropy."""
        pre_tanh = self._pre_tanh()
        log_prob = self._log_prob(pre_tanh)
        return squash(pre_tanh, self.low, self.high), log_prob, -log_prob

    def _pre_tanh(self) -> Tensor:
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)

    def _log_prob(self, pre_tanh: Tensor) -> Tensor:
        found = formulas.tanh_gaussian_log_prob(self.mean, self.log_std, pre_tanh)
        slope = ((self.high - self.low) / 2).log().expand_as(self.mean).sum(-1)
        return (found - slope).unsqueeze(-1)

    def _kl(self, other: TanhGaussian) -> Tensor:
        return formulas.gaussian_kl(self.mean, self.log_std, other.mean, other.log_std)

    def detach(self) -> TanhGaussian:
        return TanhGaussian(self.mean.detach(), self.log_std.detach(), self.low, self.high)


class GaussianMixture(Distribution):
    """Several Gaussians, of which one is chosen for each action.

    Neither entropy nor divergence has a closed form: both are estimated by one action of each
    Gaussian, with a gradient whose mean is right.

    Args:
        logits: ``[..., components]``, of the weights. May be -inf.
        mean: ``[..., components, action_dim]``.
        log_std: Logarithm of the deviation; broadcast to ``mean``.
    """

    def __init__(self, logits: Tensor, mean: Tensor, log_std: Tensor) -> None:
        self.logits = logits
        self.mean = mean
        self.log_std = log_std.expand_as(mean)

    def sample(self) -> Tensor:
        chosen = Categorical(self.logits).sample().unsqueeze(-1)
        with torch.no_grad():
            return self._of_each().take_along_dim(chosen, -2).squeeze(-2)

    def mode(self) -> Tensor:
        """That of the Gaussians' means at which the density is greatest."""
        best = self._log_probs(self.mean).argmax(-1, keepdim=True).unsqueeze(-1)
        return self.mean.take_along_dim(best, -2).squeeze(-2)

    def log_prob(self, action: Tensor) -> Tensor:
        found = formulas.gaussian_mixture_log_prob(self.logits, self.mean, self.log_std, action)
        return found.unsqueeze(-1)

    def entropy(self) -> Tensor:
        return self._expected(-self._log_probs(self._of_each())).unsqueeze(-1)

    def _kl(self, other: GaussianMixture) -> Tensor:
        actions = self._of_each()
        return self._expected(self._log_probs(actions) - other._log_probs(actions))

    def detach(self) -> GaussianMixture:
        return GaussianMixture(self.logits.detach(), self.mean.detach(), self.log_std.detach())

    def _of_each(self) -> Tensor:
        """One action of each Gaussian, ``[..., components, action_dim]``, with gradient."""
        return Gaussian(self.mean, self.log_std).rsample()

    def _log_probs(self, actions: Tensor) -> Tensor:
        """Of several actions ``[..., n, action_dim]`` for each state: ``[..., n]``."""
        n = actions.shape[-2]
        mean, log_std = (
            x.unsqueeze(-3).expand(*actions.shape[:-1], *self.mean.shape[-2:])
            for x in (self.mean, self.log_std)
        )
        logits = self.logits.unsqueeze(-2).expand(*self.logits.shape[:-1], n, -1)
        return formulas.gaussian_mixture_log_prob(logits, mean, log_std, actions)

    def _expected(self, x: Tensor) -> Tensor:
        """The weighted mean of what each Gaussian has, ``[..., components]``: ``[...]``."""
        return (Categorical(self.logits).log_probs().exp() * x).sum(-1)


def _check_action(name: str, action: Tensor, shape: list[int]) -> None:
    """Here, since the formulas take an action without its last dimension."""
    if list(action.shape) != shape:
        raise ValueError(
            f"{name}.log_prob: action must have shape {shape}, got {list(action.shape)}"
        )

"""What all policies that draw actions share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from machin_fast.model.nets.wrapper import Wrapper, with_extras
from machin_fast.policies.distributions import Distribution


class Policy(Wrapper, ABC):
    """An actor: a plain network whose output is taken for parameters of a distribution of actions.

    It is called with the arguments of its network, by position or by name, and of those by name
    the network gets what it has arguments for. If the network returns more than its output, such
    as the new state of a recurrent one, all methods return that too, behind their own result.

    Args:
        net: The network. Returns parameters, ``[..., n]``, or a tuple that begins with them.
    """

    own_names: ClassVar[frozenset[str]] = frozenset({"action"})

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)

    def forward(self, *args: Any, action: Tensor | None = None, **kwargs: Any) -> tuple[Any, ...]:
        """Draws actions, or judges those given.

        Args:
            *args, **kwargs: Of the network: ``state``, or whatever it takes, and ``hidden`` and
                ``reset`` of a recurrent one.
            action: ``[..., action_dim]``, to be judged. None: draw them.

        Returns:
            action: ``[..., action_dim]``.
            log_prob: ``[..., 1]``, of the action.
            entropy: ``[..., 1]``, in nats.
            And what else the network returned.

        Raises:
            ValueError: A shape is another one.
            TypeError: ``action`` has another dtype.
        """
        distribution, extras = self._infer(args, kwargs)
        if action is None:
            return (*distribution.draw(), *extras)
        return (action, distribution.log_prob(action), distribution.entropy(), *extras)

    def distribution(self, *args: Any, **kwargs: Any) -> Any:
        """The distributions of actions; ``safe_call(actor, state, method="distribution")[0]``.

        Args:
            *args, **kwargs: As ``forward`` takes them.

        Returns:
            A ``Distribution``; in a tuple with what else the network returned, if it did.

        Raises:
            ValueError: A shape is another one.
        """
        distribution, extras = self._infer(args, kwargs)
        return with_extras(distribution, extras)

    def mode(self, *args: Any, **kwargs: Any) -> Any:
        """The actions to take when nothing is left to chance, as in an evaluation.

        Args:
            *args, **kwargs: As ``forward`` takes them.

        Returns:
            ``[..., action_dim]``; in a tuple with what else the network returned, if it did.

        Raises:
            ValueError: A shape is another one.
        """
        distribution, extras = self._infer(args, kwargs)
        return with_extras(distribution.mode(), extras)

    def _infer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Distribution, tuple[Any, ...]]:
        output, extras = self.call_net(args, kwargs)
        return self._distribution(output, kwargs), extras

    @abstractmethod
    def _distribution(self, output: Tensor, kwargs: Mapping[str, Any]) -> Distribution:
        """That which the network's output, and perhaps arguments, are parameters of."""


def check_width(op: str, output: Tensor, width: int) -> None:
    if output.shape[-1:] != (width,):
        raise ValueError(f"{op}: net must return [..., {width}], got {list(output.shape)}")


def action_mask(kwargs: Mapping[str, Any]) -> Tensor | None:
    """Which actions there are, if that is known: environments give it as numbers."""
    mask: Tensor | None = kwargs.get("action_mask")
    return None if mask is None else mask.bool()

"""Modules around networks, whose arguments they pass on by name.

State keys are names of arguments. A module that wraps a network does not know them: it takes any,
and passes on those that the network inside has arguments for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn


class Wrapper(nn.Module):
    """A module around a network.

    Args:
        net: The network. Takes any arguments; returns a tensor, or a tuple that begins with it:
            what comes after it, such as a hidden state, is passed on.

    Attributes:
        recurrent: Whether the network takes ``hidden`` and ``reset``, and returns a new state last.
    """

    # What the module itself takes. The network gets that only if it has an argument of this name.
    own_names: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        # Looked at once: torch.compile could not look at signatures.
        self._names_inside = input_names(net)
        self.recurrent = is_recurrent(net)

    @property
    def input_names(self) -> frozenset[str] | None:
        """What it takes by name; None if it takes anything."""
        return None if self._names_inside is None else self._names_inside | self.own_names

    def for_net(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the keyword arguments that the network has arguments for."""
        names, own = self._names_inside, self.own_names
        return {
            name: value
            for name, value in kwargs.items()
            if (name not in own if names is None else name in names)
        }

    def call_net(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Calls the network: what it returned first, and all the rest."""
        result = self.net(*args, **self.for_net(kwargs))
        return (result[0], result[1:]) if isinstance(result, tuple) else (result, ())


def with_extras(output: Any, extras: tuple[Any, ...]) -> Any:
    """What a wrapper returns: the output alone if the network returned nothing else."""
    return (output, *extras) if extras else output


def input_names(net: nn.Module) -> frozenset[str] | None:
    """What a network takes by name; None if it takes anything."""
    # Here, since safe_call's module imports this package.
    from machin_fast.model.call import inside, signature

    module = inside(net)
    if isinstance(module, Wrapper):
        return module.input_names
    known = getattr(module, "input_names", None)
    return known if isinstance(known, frozenset) else signature(module.forward).names


def is_recurrent(net: nn.Module) -> bool:
    """Whether a network takes ``hidden`` and ``reset``; one that takes anything says so itself."""
    from machin_fast.model.call import inside

    known = getattr(inside(net), "recurrent", None)
    if isinstance(known, bool):  # and no layer of this name
        return known
    names = input_names(net)
    return names is not None and {"hidden", "reset"} <= names

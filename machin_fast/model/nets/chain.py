"""Networks one after the other."""

from __future__ import annotations

from typing import Any

from torch import nn

from machin_fast.model.nets.wrapper import Wrapper, with_extras


class Chain(Wrapper):
    """A network, and modules behind it; unlike in ``nn.Sequential`` it may take any arguments.

    Args:
        net: Called as the chain is. What it returns behind its output is returned at the end.
        *others: Each takes what came out of the one before.

    Attributes:
        out_features: Of the last one, if it has this attribute.
    """

    def __init__(self, net: nn.Module, *others: nn.Module) -> None:
        super().__init__(net)
        self.others = nn.Sequential(*others)
        self.out_features = getattr([net, *others][-1], "out_features", None)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output, extras = self.call_net(args, kwargs)
        return with_extras(self.others(output), extras)

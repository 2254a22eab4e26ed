"""Networks of distributions of returns."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from machin_fast.model.nets._checks import check_positive
from machin_fast.model.nets.wrapper import Wrapper, with_extras


class Distributional(Wrapper):
    """Distributions over atoms, for each action.

    Source: Bellemare et al. 2017 (C51), arXiv:1707.06887, section 4.

    Args:
        net: Returns logits, ``[..., actions * atoms]``, or ``[..., actions, atoms]`` as
            ``Dueling`` does.
        atoms: Number of atoms, if the logits are of the first shape. None: of the second.

    Raises:
        ValueError: ``atoms`` is below 1.
    """

    def __init__(self, net: nn.Module, atoms: int | None = None) -> None:
        super().__init__(net)
        if atoms is not None:
            check_positive("Distributional", atoms=atoms)
        self.atoms = atoms

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Probabilities of the atoms.

        Args:
            *args, **kwargs: Of the network.

        Returns:
            ``[..., actions, atoms]``, their sums over atoms are 1; and what else the network
            returned.
        """
        logits, extras = self._logits(args, kwargs)
        return with_extras(logits.softmax(-1), extras)

    def log_prob(self, *args: Any, **kwargs: Any) -> Any:
        """Logarithms of the atoms' probabilities, exact however small these are.

        For losses: ``safe_call(qnet, state, method="log_prob")``.

        Args:
            *args, **kwargs: Of the network.

        Returns:
            ``[..., actions, atoms]``; and what else the network returned.
        """
        logits, extras = self._logits(args, kwargs)
        return with_extras(logits.log_softmax(-1), extras)

    def _logits(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, tuple[Any, ...]]:
        logits, extras = self.call_net(args, kwargs)
        if self.atoms is not None:
            logits = logits.unflatten(-1, (-1, self.atoms))
        return logits, extras

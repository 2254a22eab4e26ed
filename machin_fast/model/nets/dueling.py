"""Dueling heads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from machin_fast.model.nets._checks import check_positive
from machin_fast.model.nets.mlp import MLP, Activation, Linear


class Dueling(nn.Module):
    """Q(s, a) as V(s) plus advantages whose mean over actions is 0.

    Source: Wang et al. 2016, arXiv:1511.06581, equation 9. Over atoms: Hessel et al. 2018
    (Rainbow), arXiv:1710.02298, section "The Integrated Agent".

    Args:
        in_features: Size of a state, or of its features.
        actions: Number of actions.
        hidden: Sizes of hidden layers, of the value's and of the advantages' stream each.
        atoms: Number of atoms of a distribution of returns. None: there is none.
        activation: Makes what follows each hidden layer.
        linear: Makes a layer, such as ``NoisyLinear``.

    Raises:
        ValueError: A size is below 1.
    """

    def __init__(
        self,
        in_features: int,
        actions: int,
        hidden: Sequence[int] = (),
        *,
        atoms: int | None = None,
        activation: Activation = nn.ReLU,
        linear: Linear = nn.Linear,
    ) -> None:
        super().__init__()
        numbers = 1 if atoms is None else atoms
        check_positive("Dueling", in_features=in_features, actions=actions, atoms=numbers)

        def stream(outputs: int) -> MLP:
            return MLP(in_features, outputs, hidden, activation, gain=None, linear=linear)

        self.value = stream(numbers)
        self.advantage = stream(actions * numbers)
        self.in_features = in_features
        self.actions = actions
        self.atoms = atoms

    def forward(self, state: Tensor) -> Tensor:
        """Values of actions.

        Args:
            state: ``[..., in_features]``.

        Returns:
            ``[..., actions]``, or ``[..., actions, atoms]``, which are logits of atoms.
        """
        value = self.value(state).unsqueeze(-2)
        advantage = self.advantage(state).unflatten(-1, (self.actions, -1))
        q = value + advantage - advantage.mean(-2, keepdim=True)
        return q.squeeze(-1) if self.atoms is None else q

"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from machin_fast.model.nets._checks import check_positive, check_sizes
from machin_fast.model.nets._init import HIDDEN, orthogonal

Linear = Callable[[int, int], nn.Module]
Activation = Callable[[], nn.Module]


class MLP(nn.Module):
    """Linear layers with activations between them.

    Source: initialisation as in Huang et al. 2022, The 37 Implementation Details of Proximal
    Policy Optimization (CleanRL), detail 2, which is that of Stable-Baselines3 too: weights are
    orthogonal, of gain sqrt(2) in hidden layers; biases are 0. The last layer's gain is 0.01 for
    policies, so that at first all actions are equally likely, and 1 for values. Off-policy
    algorithms have torch's own initialisation there: ``gain=None``.

    Args:
        in_features: Size of a state.
        out_features: Size of what is returned. None: activations of the last hidden layer, or the
            state itself if there is none.
        hidden: Sizes of the hidden layers.
        activation: Makes what follows each hidden layer.
        layer_norm: Whether hidden layers are normalized before their activations, as in Ball et
            al. 2023, arXiv:2302.02948, section 4.2.
        gain: Of the last layer; 1 for values, 0.01 for policies. None: all layers stay as they
            were made.
        linear: Makes a layer of so many inputs and outputs, which has a ``weight``.

    Attributes:
        in_features: Size of a state.
        out_features: Size of what is returned.

    Raises:
        ValueError: A size is below 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None,
        hidden: Sequence[int] = (64, 64),
        activation: Activation = nn.ReLU,
        layer_norm: bool = False,
        *,
        gain: float | None = 1.0,
        linear: Linear = nn.Linear,
    ) -> None:
        super().__init__()
        check_positive("MLP", in_features=in_features)
        check_sizes("MLP", "hidden", hidden)
        layers: list[nn.Module] = []
        size = in_features
        for width in hidden:
            layers.append(linear(size, width))
            if gain is not None:
                orthogonal(layers[-1], HIDDEN)
            if layer_norm:
                layers.append(nn.LayerNorm(width))
            layers.append(activation())
            size = width
        if out_features is not None:
            check_positive("MLP", out_features=out_features)
            layers.append(linear(size, out_features))
            if gain is not None:
                orthogonal(layers[-1], gain)
            size = out_features
        self.layers = nn.Sequential(*layers)
        self.in_features = in_features
        self.out_features = size

    def forward(self, state: Tensor) -> Tensor:
        """What it makes of states.

        Args:
            state: ``[..., in_features]``, any dtype: it is cast to that of the weights.

        Returns:
            ``[..., out_features]``.
        """
        if len(self.layers):
            state = state.to(self.layers[0].weight.dtype)  # type: ignore[arg-type]
        return self.layers(state)

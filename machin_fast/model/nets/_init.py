"""How layers begin."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)

# The gain of layers behind which there is an activation.
HIDDEN = math.sqrt(2)


def orthogonal(layer: Layer, gain: float = HIDDEN) -> Layer:
    """Makes weights orthogonal and biases 0; leaves layers of other kinds as they are.

    Source: Saxe et al. 2014, arXiv:1312.6120.
    """
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.orthogonal_(layer.weight, gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer

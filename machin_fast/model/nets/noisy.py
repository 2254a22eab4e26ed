"""Exploration by noise on weights, which learning scales."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from machin_fast.model.nets._checks import check_positive


class NoisyLinear(nn.Module):
    """A linear layer whose weights are drawn anew in each forward, one draw for the whole batch.

    There is noise in ``train()`` and in ``eval()`` mode: Machin's frameworks leave networks in the
    latter, and act in it. ``without_noise`` turns it off.

    Source: Fortunato et al. 2018, arXiv:1706.10295, equations 9 to 11 (factorised noise) and
    section 3.2 (initialisation).

    Args:
        in_features: Number of inputs.
        out_features: Number of outputs.
        std: Deviation of the noise at first, sigma_0 in the paper: a weight's is
            ``std / sqrt(in_features)``.

    Attributes:
        weight, bias: Means, ``[out_features, in_features]`` and ``[out_features]``.
        weight_std, bias_std: Like them, what the noise is multiplied with.
        noisy: Whether there is noise.

    Raises:
        ValueError: A size is below 1.
    """

    def __init__(self, in_features: int, out_features: int, *, std: float = 0.5) -> None:
        super().__init__()
        check_positive("NoisyLinear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.noisy = True
        most = 1 / math.sqrt(in_features)
        shape = (out_features, in_features)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-most, most))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-most, most))
        self.weight_std = nn.Parameter(torch.full(shape, std * most))
        self.bias_std = nn.Parameter(torch.full((out_features,), std * most))

    def forward(self, state: Tensor) -> Tensor:
        """What comes out.

        Args:
            state: ``[..., in_features]``.

        Returns:
            ``[..., out_features]``.
        """
        if not self.noisy:
            return F.linear(state, self.weight, self.bias)
        of_input, of_output = self._noise(self.in_features), self._noise(self.out_features)
        weight = torch.addcmul(self.weight, self.weight_std, torch.outer(of_output, of_input))
        bias = torch.addcmul(self.bias, self.bias_std, of_output)
        return F.linear(state, weight, bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def _noise(self, size: int) -> Tensor:
        x = torch.randn(size, dtype=self.weight.dtype, device=self.weight.device)
        return x.sign() * x.abs().sqrt()


@contextmanager
def without_noise(module: nn.Module) -> Iterator[None]:
    """Turns the noise of all ``NoisyLinear`` in a module off, for as long as the context lasts.

    Source: Fortunato et al. 2018, arXiv:1706.10295, equation 9 with epsilon = 0.

    Args:
        module: The network; its own flags are changed, so other threads see that too.

    Returns:
        The context. May be nested.

    Raises:
        Nothing.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, NoisyLinear)]
    before = [layer.noisy for layer in layers]
    try:
        for layer in layers:
            layer.noisy = False
        yield
    finally:
        for layer, noisy in zip(layers, before, strict=True):
            layer.noisy = noisy

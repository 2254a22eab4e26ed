"""Noisy tensors where a model's parameters are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Source: TypeAlias = Callable[[torch.device, float], Tensor]
"""Gives noise on a device, of a deviation."""


class NoisyParameters:
    """Parameters of a model with noise added, to put in their places for a while.

    The parameters themselves never change, and gradients of the noisy tensors reach them. The sum
    is kept until the noise or a parameter changes.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        # Each parameter, in the order of model.parameters(), may be in several places.
        places: dict[int, list[tuple[dict[str, Any], str]]] = {}
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    places.setdefault(id(parameter), []).append((module._parameters, name))
        self._places = list(places.values())
        self._parameters: list[Tensor] | None = None
        self._noise: list[Tensor] | None = None
        self._kept: tuple[list[tuple[int, int]], list[Tensor]] = [], []

    @property
    def drawn(self) -> bool:
        """Whether there is noise."""
        return self._noise is not None

    @property
    def in_place(self) -> bool:
        """Whether noisy tensors are where the parameters were."""
        return self._parameters is not None

    def draw(self, sources: Sequence[Source], deviation: float) -> None:
        """Draws new noise.

        Args:
            sources: One for each parameter, of its shape.
            deviation: Of the noise.
        """
        with torch.inference_mode(False), torch.no_grad():
            self._noise = [
                source(parameter.device, deviation)
                for source, parameter in zip(sources, self._read(), strict=True)
            ]
        self._kept = [], []

    def put(self) -> None:
        """Puts the noisy tensors in place."""
        parameters = self._read()
        self._write(self._noisy(parameters))
        self._parameters = parameters

    def put_back(self) -> None:
        """Puts the parameters back, if they are not there."""
        if self._parameters is not None:
            self._write(self._parameters)
            self._parameters = None

    def _noisy(self, parameters: list[Tensor]) -> list[Tensor]:
        key = [(parameter._version, parameter.data_ptr()) for parameter in parameters]
        if self._kept[0] != key:
            self._kept = key, self._sum(parameters)
        noisy = self._kept[1]
        if not torch.is_grad_enabled():
            return noisy
        return list(_PassGradient.apply(*noisy, *parameters))  # type: ignore[no-untyped-call]

    # A sum made in inference mode could never be used with gradients.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _sum(self, parameters: list[Tensor]) -> list[Tensor]:
        assert self._noise is not None
        # Of the parameters' device and dtype, which may have changed since.
        self._noise = [
            noise.to(parameter) for noise, parameter in zip(self._noise, parameters, strict=True)
        ]
        return list(torch._foreach_add(parameters, self._noise)) if parameters else []

    def _read(self) -> list[Tensor]:
        return [places[0][0][places[0][1]] for places in self._places]

    def _write(self, tensors: list[Tensor]) -> None:
        for places, tensor in zip(self._places, tensors, strict=True):
            for parameters, name in places:
                parameters[name] = tensor


class _PassGradient(torch.autograd.Function):
    """From tensors and as many parameters: the tensors, whose gradients go to the parameters."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach() for tensor in tensors[: len(tensors) // 2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return (*[None] * len(gradients), *gradients)

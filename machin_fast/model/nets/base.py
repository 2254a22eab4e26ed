"""Modules that know where their inputs belong and their outputs are."""

from __future__ import annotations

from abc import ABC
from typing import Any, TypeVar

import torch
from torch import nn

from machin_fast.model.devices import check_single_device, single_device

Module = TypeVar("Module", bound=nn.Module)


class NeuralNetworkModule(nn.Module, ABC):
    """A module that may lie on several devices: it takes inputs on one, and returns on another.

    ``set_input_module`` and ``set_output_module`` name the submodules whose devices these are. A
    module on one device needs neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_module: nn.Module | None = None
        self.output_module: nn.Module | None = None

    def set_input_module(self, input_module: nn.Module) -> None:
        """Names the submodule whose device inputs are moved to.

        Args:
            input_module: On one device, or a NeuralNetworkModule. Of an ``nn.Sequential`` the
                first leaf counts.

        Raises:
            RuntimeError: Its parameters are on several devices.
        """
        _check(input_module, "input")
        self.input_module = input_module

    def set_output_module(self, output_module: nn.Module) -> None:
        """Names the submodule whose device outputs are on.

        Args:
            output_module: On one device, or a NeuralNetworkModule. Of an ``nn.Sequential`` the
                last leaf counts.

        Raises:
            RuntimeError: Its parameters are on several devices.
        """
        _check(output_module, "output")
        self.output_module = output_module

    @property
    def input_device(self) -> str | torch.device:
        """Of the input module, or else of this one.

        Raises:
            RuntimeError: Parameters are on several devices, or there are none.
        """
        return _device(self, "input")

    @property
    def output_device(self) -> str | torch.device:
        """Of the output module, or else of the input module, or else of this one.

        Raises:
            RuntimeError: Parameters are on several devices, or there are none.
        """
        if self.output_module is None and self.input_module is not None:
            return self.input_device
        return _device(self, "output")

    @staticmethod
    def find_child(seq: nn.Module, is_first: bool = True) -> nn.Module:
        """The first or last leaf of nested ``nn.Sequential``; any other module is a leaf."""
        while isinstance(seq, nn.Sequential) and len(seq):
            seq = seq[0 if is_first else -1]
        return seq


class DynamicModule(NeuralNetworkModule):
    """What ``dynamic_module_wrapper`` returns; ``safe_call`` sees the signature of what is inside.

    Args:
        wrapped_module: The module.
    """

    def __init__(self, wrapped_module: nn.Module) -> None:
        super().__init__()
        self.wrapped_module = wrapped_module
        self.set_input_module(wrapped_module)
        self.set_output_module(wrapped_module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.wrapped_module(*args, **kwargs)


def static_module_wrapper(
    wrapped_module: Module, input_device: str | torch.device, output_device: str | torch.device
) -> Module:
    """Says where a module wants its inputs and has its outputs, for good.

    The module may lie on several devices, but must not be moved any more.

    Args:
        wrapped_module: The module. It gets the attributes ``input_device``, ``output_device``.
        input_device, output_device: Its devices.

    Returns:
        The same module.

    Raises:
        ValueError: It is a NeuralNetworkModule, which knows better.
    """
    _check_plain("static_module_wrapper", wrapped_module)
    wrapped_module.input_device = input_device  # type: ignore[assignment]
    wrapped_module.output_device = output_device  # type: ignore[assignment]
    return wrapped_module


def dynamic_module_wrapper(wrapped_module: nn.Module) -> NeuralNetworkModule:
    """Wraps a module on one device, so that its device is known wherever it is moved.

    Args:
        wrapped_module: The module.

    Returns:
        A module with ``input_device`` and ``output_device`` that calls it.

    Raises:
        ValueError: It is a NeuralNetworkModule already.
        RuntimeError: Its parameters are on several devices.
    """
    _check_plain("dynamic_module_wrapper", wrapped_module)
    return DynamicModule(wrapped_module)


def _check_plain(op: str, module: nn.Module) -> None:
    if isinstance(module, NeuralNetworkModule):
        raise ValueError(
            f"{op}: wrapped_module must be of another class, got {type(module).__name__}. "
            "Module is already a wrapped NeuralNetworkModule."
        )


def _check(module: nn.Module, end: str) -> None:
    leaf = NeuralNetworkModule.find_child(module, end == "input")
    if not isinstance(leaf, NeuralNetworkModule):
        cure = (
            f"{end.capitalize()} module must be another NeuralNetworkModule or locate on one "
            "single device."
        )
        check_single_device(leaf, f"NeuralNetworkModule.set_{end}_module", cure)


def _device(owner: NeuralNetworkModule, end: str) -> str | torch.device:
    """The device at one end, "input" or "output"."""
    op, cure = _TEXTS[end]
    module = owner._modules.get(f"{end}_module")  # quicker than getattr, as this is in every call
    if module is not None:
        # A leaf such as nn.Flatten has no parameters; what is around it has.
        for part in (NeuralNetworkModule.find_child(module, end == "input"), module):
            if isinstance(part, NeuralNetworkModule):
                return part.input_device if end == "input" else part.output_device
            if (device := single_device(part, op, cure)) is not None:
                return device
    if (device := single_device(owner, op, cure)) is not None:
        return device
    raise RuntimeError(
        f"{op}: {type(owner).__name__} must have an {end} module or parameters, got neither. "
        f"{end.capitalize()} module not set."
    )


_TEXTS = {
    end: (
        f"NeuralNetworkModule.{end}_device",
        f"This {end} module contains parameters on different devices, please consider about "
        "splitting it.",
    )
    for end in ("input", "output")
}

"""Where modules are."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

# Modules whose parameters were all seen on one device; they are looked at again when the first
# one has moved.
_seen: WeakKeyDictionary[nn.Module, torch.device] = WeakKeyDictionary()


def single_device(module: nn.Module, op: str, cure: str) -> torch.device | None:
    """The device of a module's parameters, now: it may have been moved since the last call.

    Args:
        module: The module.
        op: Who asks, for errors.
        cure: For errors.

    Returns:
        The device. Without parameters that of its buffers; without either None.

    Raises:
        RuntimeError: The parameters are on several devices.
    """
    parameter = _first_parameter(module)
    if parameter is None:
        return next((buffer.device for buffer in module.buffers()), None)
    device = parameter.device
    if _seen.get(module) != device:
        _seen[module] = check_single_device(module, op, cure) or device
    return device


def check_single_device(module: nn.Module, op: str, cure: str) -> torch.device | None:
    """As ``single_device`` says, with a look at every parameter, and at no buffer."""
    devices = {parameter.device for parameter in module.parameters()}
    if len(devices) > 1:
        raise RuntimeError(
            f"{op}: parameters of {type(module).__name__} must be on one device, "
            f"got {', '.join(sorted(map(str, devices)))}. {cure}"
        )
    return next(iter(devices), None)


def _first_parameter(module: nn.Module) -> Tensor | None:
    """Ten times quicker than ``next(module.parameters())``, which keeps sets of what it saw."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        if child is not None and (found := _first_parameter(child)) is not None:
            return found
    return None

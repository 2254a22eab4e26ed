"""Calls of models whose arguments are named as what is stored."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, NamedTuple, NoReturn, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from machin_fast.model.devices import single_device
from machin_fast.model.nets.base import DynamicModule

Function: TypeAlias = Callable[..., Any]


class Signature(NamedTuple):
    """What a function takes by name.

    Attributes:
        names: Its arguments; None if it takes any, by ``*args`` or ``**kwargs``.
        required: Those without a default.
    """

    names: frozenset[str] | None
    required: tuple[str, ...]


# By function, not by class: whoever replaces a method, of a class or of one module, is seen.
_of_functions: WeakKeyDictionary[Function, Signature] = WeakKeyDictionary()
_of_methods: WeakKeyDictionary[Function, Signature] = WeakKeyDictionary()


def safe_call(
    model: nn.Module, *named_args: Mapping[str, Any], method: str = "__call__"
) -> tuple[Any, ...]:
    """Calls a model with those of the values that it has arguments for.

    Tensors are moved to the model's input device, but none in a list, tuple or dict. Costs about
    2 us more than the call itself.

    Args:
        model: The model. Of one in ``DataParallel``, ``DistributedDataParallel``,
            ``torch.compile`` or ``dynamic_module_wrapper``, the arguments and the device are those
            of the module inside.
        *named_args: Values by name; of two with one name the later one counts. Names that the
            model has no argument for are dropped, unless it takes ``*args`` or ``**kwargs``.
        method: Name of another method to call, of the module inside.

    Returns:
        What the model returns, in a tuple if it is none.

    Raises:
        RuntimeError: An argument without default has no value, or the model is on several devices
            and does not say where it wants its inputs.
    """
    module = inside(model)
    function = module.forward if method == "__call__" else getattr(module, method)
    names, required = signature(function)
    device = input_device(module)
    arguments: dict[str, Any] = {}
    for values in named_args:
        for name, value in values.items():
            if names is None or name in names:
                if isinstance(value, Tensor) and value.device != device and device is not None:
                    value = value.to(device)
                arguments[name] = value
    for name in required:
        if name not in arguments:
            _fail(function, required, arguments)
    result = model(**arguments) if method == "__call__" else function(**arguments)
    return result if isinstance(result, tuple) else (result,)


def safe_return(result: tuple[Any, ...]) -> Any:
    """The element of a tuple of one, and any other tuple itself.

    Args:
        result: Of ``safe_call``.

    Returns:
        The element or the tuple.
    """
    return result[0] if len(result) == 1 else result


def signature(function: Function) -> Signature:
    """What a function takes by name, read once for each function.

    Args:
        function: Such as a module's bound method ``forward``, or anything callable.

    Returns:
        Its signature. That of a decorated function is of the function itself.
    """
    known, key = _of_functions, function
    if type(function) is MethodType:
        known, key = _of_methods, function.__func__
    try:
        found = known.get(key)
    except TypeError:  # an object without weak references
        return _read(function)
    if found is None:
        found = known[key] = _read(function)
    return found


def input_device(module: nn.Module) -> str | torch.device | None:
    """Where a module wants its inputs.

    Args:
        module: The module.

    Returns:
        Its ``input_device`` if it has one, else where its parameters are now; None if it has no
        parameters and no buffers either.

    Raises:
        RuntimeError: It has no ``input_device``, and parameters on several devices.
    """
    if "input_device" in vars(module) or _knows_input_device(type(module)):  # type: ignore[arg-type]
        return module.input_device  # type: ignore[return-value]
    return single_device(module, "safe_call", _CURE)


_CURE = (
    "Failed to automatically determine i/o device of your model: wrap it with "
    "static_module_wrapper, or make it a NeuralNetworkModule and call set_input_module"
)


# What is the same for all modules of a class. hasattr of a module would take 2 us to find nothing,
# and isinstance is slow for abstract classes.


@functools.lru_cache
def _knows_input_device(kind: type) -> bool:
    return hasattr(kind, "input_device")


def inside(model: nn.Module) -> nn.Module:
    """The module that has the signature: of one in a wrapper, as ``safe_call`` says."""
    while (name := _name_inside(type(model))) is not None:  # type: ignore[arg-type]
        model = getattr(model, name)
    return model


@functools.lru_cache
def _name_inside(kind: type) -> str | None:
    """The attribute of a wrapper's class that holds what is wrapped."""
    if issubclass(kind, DataParallel | DistributedDataParallel):
        return "module"
    if issubclass(kind, DynamicModule):
        return "wrapped_module"
    dynamo = sys.modules.get("torch._dynamo")  # takes a second to import
    if dynamo is not None and issubclass(kind, dynamo.OptimizedModule):
        return "_orig_mod"
    return None


def _read(function: Function) -> Signature:
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return Signature(
        None if takes_any else frozenset(p.name for p in named if p.kind != p.POSITIONAL_ONLY),
        tuple(p.name for p in named if p.default is p.empty),
    )


def _fail(function: Function, required: tuple[str, ...], arguments: Mapping[str, Any]) -> NoReturn:
    missing = [name for name in required if name not in arguments]
    name = getattr(function, "__qualname__", repr(function))
    raise RuntimeError(
        f"safe_call: named_args must have all of {', '.join(required)}, which {name} requires, "
        f"got {', '.join(arguments) or 'none'}; missing required arguments: {', '.join(missing)}. "
        "Check your storage functions."
    )

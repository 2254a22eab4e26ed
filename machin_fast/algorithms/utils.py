"""What Machin's algorithms take by name, and the pieces that its users import from here."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from machin_fast.functional import hard_update_, polyak_update_
from machin_fast.model.call import safe_call, safe_return

__all__ = [
    "FakeOptimizer",
    "assert_and_get_valid_criterion",
    "assert_and_get_valid_lr_scheduler",
    "assert_and_get_valid_models",
    "assert_and_get_valid_optimizer",
    "assert_output_is_probs",
    "determine_device",
    "get_globals_from_stack",
    "hard_update",
    "safe_call",
    "safe_import",
    "safe_return",
    "soft_update",
]


def soft_update(target_net: nn.Module, source_net: nn.Module, update_rate: float) -> None:
    """Moves a target network's parameters towards those of another; its buffers stay.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 3.

    Args:
        target_net: Changed in place.
        source_net: A network with the same parameters.
        update_rate: Part of the way to go, in [0, 1].

    Raises:
        ValueError: As ``functional.polyak_update_`` does.
    """
    polyak_update_(target_net.parameters(), source_net.parameters(), update_rate)


def hard_update(target_net: nn.Module, source_net: nn.Module) -> None:
    """Copies parameters and buffers.

    Args:
        target_net: Changed in place.
        source_net: A network with the same parameters and buffers.

    Raises:
        ValueError: As ``functional.hard_update_`` does.
    """
    hard_update_(target_net.parameters(), source_net.parameters())
    hard_update_(target_net.buffers(), source_net.buffers())


def determine_device(model: nn.Module) -> list[torch.device]:
    """The devices of a model's parameters.

    Args:
        model: The model.

    Returns:
        Each device once.
    """
    return list(dict.fromkeys(parameter.device for parameter in model.parameters()))


def assert_output_is_probs(tensor: Tensor) -> None:
    """Refuses what is no batch of probabilities. It is waited for.

    Args:
        tensor: What an actor returned.

    Raises:
        ValueError: It is not ``[batch, action_num]``, a number is negative or NaN, or a row does
            not sum to 1 within 1e-5.
    """
    if tensor.dim() == 2:
        near_1 = (tensor.sum(1) - 1).abs() < 1e-5
        if (tensor >= 0).all() & near_1.all():  # waits once, not twice
            return
    raise ValueError(
        "act_discrete: the actor must return probabilities [batch, action_num], each row a "
        f"distribution, got {tensor}"
    )


class FakeOptimizer(torch.optim.Optimizer):
    """An optimizer that does nothing, where one must be.

    Args:
        params: Parameters; left as they are.
        *_, **__: Of any optimizer.
    """

    def __init__(self, params: Any, *_: Any, **__: Any) -> None:
        super().__init__([nn.Parameter(torch.zeros(1))], {})

    def step(self, *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Does nothing."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Does nothing."""


# -- names --------------------------------------------------------------------------------------


def safe_import(name: str) -> Any:
    """Imports what a dotted path names.

    Args:
        name: Such as ``torch.nn.Linear``.

    Returns:
        It; None if there is nothing of that name.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute) if module else None
    except (ImportError, AttributeError, TypeError, ValueError):  # the last two of odd dots
        return None


def get_globals_from_stack() -> dict[str, Any]:
    """The globals of all functions that are being called.

    Returns:
        By name; of two the one of the innermost function.
    """
    found: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        found = {**frame.f_globals, **found}
        frame = frame.f_back
    return found


def assert_and_get_valid_models(models: Sequence[Any]) -> list[type[nn.Module]]:
    """Classes of networks.

    Args:
        models: Classes, names of classes that are global where a caller is, or dotted paths.

    Returns:
        The classes.

    Raises:
        ValueError: One is no class of a module, or not to be found.
    """
    return [_resolve("models", each, (), _is_network) for each in models]


def assert_and_get_valid_optimizer(optimizer: Any) -> Any:
    """The class of an optimizer.

    Args:
        optimizer: The class, or its name in ``torch.optim``, among globals, or a dotted path.

    Returns:
        The class.

    Raises:
        ValueError: It is no class of an optimizer, or not to be found.
    """
    return _resolve("optimizer", optimizer, (torch.optim,), _is_optimizer)


def assert_and_get_valid_criterion(criterion: Any) -> Any:
    """A class of losses, or a function that makes them.

    Args:
        criterion: It, or its name in ``torch.nn``, among globals, or a dotted path.

    Returns:
        What makes the criterion.

    Raises:
        ValueError: It cannot be called, or not be found.
    """
    return _resolve("criterion", criterion, (nn,), callable)


def assert_and_get_valid_lr_scheduler(lr_scheduler: Any) -> Any:
    """The class of learning rate schedulers.

    Args:
        lr_scheduler: The class, or its name in ``torch.optim.lr_scheduler``, among globals, or a
            dotted path.

    Returns:
        The class.

    Raises:
        ValueError: It is no such class, or not to be found.
    """
    places = (torch.optim.lr_scheduler,)
    return _resolve("lr_scheduler", lr_scheduler, places, _is_scheduler)


def _is_network(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, nn.Module)


def _is_optimizer(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, torch.optim.Optimizer)


def _is_scheduler(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, torch.optim.lr_scheduler.LRScheduler)


def _resolve(name: str, given: Any, places: Sequence[Any], fits: Callable[[Any], bool]) -> Any:
    """What ``given`` is or names, in the first of some places where that fits."""
    found = [given]
    if isinstance(given, str):
        found = [getattr(place, given, None) for place in places]
        found += [get_globals_from_stack().get(given), safe_import(given)]
    for each in found:
        if each is not None and fits(each):
            return each
    what = {
        "models": "classes of networks",
        "optimizer": "a class of torch.optim",
        "criterion": "something that makes a criterion",
        "lr_scheduler": "a class of torch.optim.lr_scheduler",
    }[name]
    raise ValueError(
        f"init_from_config: {name} must be {what}, the name of one that is global where it is "
        f"called, or a dotted path, got {given!r}"
    )

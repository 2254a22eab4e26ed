"""Noise on actions.

All of these add ``ratio`` times the noise and never clamp the result. ``noise_param`` is one
tuple for all entries of an action, or a sequence of tuples, one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from machin_fast.noise._draws import check_bounds, check_spread, draw
from machin_fast.noise.generator import OrnsteinUhlenbeckNoiseGen

NoiseParam: TypeAlias = Sequence[float] | Sequence[Sequence[float]]


def add_uniform_noise_to_action(
    action: Tensor,
    noise_param: NoiseParam = (0.0, 1.0),
    ratio: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Adds independent uniform noise.

    Args:
        action: ``[..., dim]``.
        noise_param: ``(min, max)``, or such a tuple for each of ``dim`` entries.
        ratio: Factor of the noise.
        generator: Of the random numbers. None: torch's own one of the action's device.

    Returns:
        Like ``action``.

    Raises:
        ValueError: ``noise_param`` is something else, or ``max`` is less than ``min``.
    """
    op = "add_uniform_noise_to_action"
    low, high = _parameters(op, action, noise_param, "min, max")
    noise = _noise(torch.rand, action, generator) * (high - low) + low
    return action + noise * ratio


def add_normal_noise_to_action(
    action: Tensor,
    noise_param: NoiseParam = (0.0, 1.0),
    ratio: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Adds independent normal noise.

    Args:
        action: ``[..., dim]``.
        noise_param: ``(mean, std)``, or such a tuple for each of ``dim`` entries.
        ratio: Factor of the noise.
        generator: Of the random numbers. None: torch's own one of the action's device.

    Returns:
        Like ``action``.

    Raises:
        ValueError: ``noise_param`` is something else, or ``std`` is below 0.
    """
    op = "add_normal_noise_to_action"
    mean, std = _parameters(op, action, noise_param, "mean, std")
    noise = _noise(torch.randn, action, generator) * std + mean
    return action + noise * ratio


def add_clipped_normal_noise_to_action(
    action: Tensor,
    noise_param: NoiseParam = (0.0, 1.0, -1.0, 1.0),
    ratio: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Adds independent normal noise; what is out of bounds is put on the nearer bound.

    Args:
        action: ``[..., dim]``.
        noise_param: ``(mean, std, min, max)``, mean and deviation before the noise is clipped, or
            such a tuple for each of ``dim`` entries.
        ratio: Factor of the clipped noise.
        generator: Of the random numbers. None: torch's own one of the action's device.

    Returns:
        Like ``action``.

    Raises:
        ValueError: ``noise_param`` is something else, ``std`` is below 0, or ``max`` is less than
            ``min``.
    """
    op = "add_clipped_normal_noise_to_action"
    mean, std, low, high = _parameters(op, action, noise_param, "mean, std, min, max")
    noise = (_noise(torch.randn, action, generator) * std + mean).clamp(low, high)
    return action + noise * ratio


def add_ou_noise_to_action(
    action: Tensor,
    noise_param: Mapping[str, Any] | None = None,
    ratio: float = 1.0,
    reset: bool = False,
    *,
    process: OrnsteinUhlenbeckNoiseGen | None = None,
) -> Tensor:
    """Adds the next noise of an Ornstein-Uhlenbeck process.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 3.

    Args:
        action: Any shape.
        noise_param: Keyword arguments of ``OrnsteinUhlenbeckNoiseGen``. Looked at when a process
            begins, that is in the first call or where ``reset`` is true. None: the defaults, or
            what they were before.
        ratio: Factor of the noise.
        reset: Begin anew, as for a new episode.
        process: Where the noise is from. None: from a process that all actions of this shape
            share, in the whole program. With two agents in it give each its own.

    Returns:
        Like ``action``.

    Raises:
        ValueError: The process has another shape, or ``noise_param`` is out of range.
    """
    if process is None:
        process = _shared_process(action.shape, noise_param, reset)
    elif process.shape != action.shape:
        raise ValueError(
            f"add_ou_noise_to_action: process must have shape {list(action.shape)}, "
            f"got {list(process.shape)}"
        )
    elif reset:
        process.reset()
    return action + (process(action.device) * ratio).to(_dtype(action))


_processes: dict[torch.Size, OrnsteinUhlenbeckNoiseGen] = {}


def _shared_process(
    shape: torch.Size, noise_param: Mapping[str, Any] | None, reset: bool
) -> OrnsteinUhlenbeckNoiseGen:
    process = _processes.get(shape)
    if process is None or (reset and noise_param is not None):
        process = _processes[shape] = OrnsteinUhlenbeckNoiseGen(shape, **(noise_param or {}))
    elif reset:
        process.reset()
    return process


def _parameters(op: str, action: Tensor, noise_param: NoiseParam, names: str) -> Sequence[Any]:
    """Each of the named parameters: a number, or ``[dim]`` if entries have their own."""
    own = hasattr(noise_param[0], "__len__")
    tuples: Any = noise_param if own else [noise_param]
    if own and len(tuples) != action.shape[-1]:
        raise ValueError(
            f"{op}: Noise param length doesn't match the last dimension of action: "
            f"noise_param must have {action.shape[-1]} tuples, got {len(tuples)}"
        )
    for each in tuples:
        if len(each) != len(names.split(", ")):
            raise ValueError(f"{op}: noise_param must be ({names}), got {each}")
        named = dict(zip(names.split(", "), each, strict=True))
        check_spread(op, "std", named.get("std", 0))
        check_bounds(op, "min, max", named.get("min", 0), named.get("max", 0))
    if not own:
        return noise_param
    return torch.tensor(noise_param, dtype=_dtype(action), device=action.device).unbind(1)


def _noise(
    sample: Callable[..., Tensor], action: Tensor, generator: torch.Generator | None
) -> Tensor:
    return draw(sample, action.shape, action.device, _dtype(action), generator)


def _dtype(action: Tensor) -> torch.dtype:
    """Of noise: of an integer action torch's default."""
    return action.dtype if action.is_floating_point() else torch.get_default_dtype()

"""Episodes as Machin's users store them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from machin_fast.buffers.buffer import REQUIRED_ATTRS
from machin_fast.data import Trajectory
from machin_fast.transition import TransitionBase

Step: TypeAlias = TransitionBase | Mapping[str, Any]

_NUMBERS = ("reward", "terminal", "truncated")


def trajectory_of(episode: Sequence[Step]) -> Trajectory:
    """Machin's transitions, in order of time, as a trajectory.

    Raises:
        ValueError: There is none, or one lacks something.
    """
    steps = []
    for step in episode:
        missing = set(REQUIRED_ATTRS).difference(step.keys())
        if missing:
            raise ValueError(
                f"store_episode: transitions must have {', '.join(REQUIRED_ATTRS)}, "
                f"got {', '.join(step.keys())}; missing: {', '.join(sorted(missing))}"
            )
        known = {k: x for k, x in step.items() if k != "terminated"}  # as users may call terminal
        steps.append({k: _number(x) if k in _NUMBERS else x for k, x in known.items()})
    return Trajectory.from_transitions(steps, batched=True)


def without_time_limit(step: Step) -> Step:
    """A step that did not terminate if it was only cut off; of a dict, without ``truncated``,
    which the other steps of an episode need not have."""
    names = step.keys() if isinstance(step, Mapping | TransitionBase) else ()
    if "truncated" not in names:
        return step
    cut = bool(torch.as_tensor(step["truncated"]).any())
    ended = step["terminal"] if "terminal" in names else None
    going_on = torch.zeros_like(ended) if isinstance(ended, Tensor) else False
    if isinstance(step, Mapping):
        rest = {name: x for name, x in step.items() if name != "truncated"}
        return {**rest, "terminal": going_on} if cut else rest
    if cut:
        step = copy.copy(step)
        step["terminal"] = going_on
    return step


def _number(value: Any) -> Any:
    """A tensor of one number as ``[1]``: Machin takes ``[1, 1]``, too."""
    return value.reshape(1) if isinstance(value, Tensor) and value.numel() == 1 else value

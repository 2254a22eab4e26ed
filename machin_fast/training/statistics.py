"""What wrappers that normalise have seen: part of a policy, since it learned from what they show.

Gymnasium's ``NormalizeObservation`` and ``NormalizeReward`` are known, around a vector or around
each environment in it (the outermost of each); and wrappers around a vector that have
``state_dict`` and ``load_state_dict``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.wrappers.utils import RunningMeanStd

Environment: TypeAlias = "VectorEnv[Any, Any, Any] | gymnasium.Env[Any, Any]"

_RUNNING = ("obs_rms", "return_rms")  # of Gymnasium, with mean, var and count
_SUMS = ("discounted_reward", "accumulated_reward")  # of rewards, beside return_rms


def take_statistics(envs: Environment) -> dict[str, Any]:
    """Statistics of all wrappers that normalise.

    Args:
        envs: A vector of environments, or a single one.

    Returns:
        Copies: ``around`` of each wrapper of the vector from the outermost on, and ``within`` of
        each environment in it. Empty ones if nothing normalises.
    """
    return {
        "around": [_taken(layer) for layer in _layers(envs)],
        "within": _taken_within(_inmost(envs)),
    }


def put_statistics(envs: Environment, state: Mapping[str, Any], *, frozen: bool = False) -> None:
    """Gives wrappers the statistics that others had.

    Args:
        envs: Environments in wrappers like those of the state.
        state: Of ``take_statistics``.
        frozen: For evaluation: nothing changes them any more; there may be another number of
            environments, and each gets what all those of the state together have seen; those of
            rewards do not count, which are evaluated as they are.

    Raises:
        ValueError: The wrappers are others, or so is the number of environments.
    """
    layers = [layer for layer in _layers(envs) if not (frozen and _of_rewards(layer))]
    around = [kept for kept in state["around"] if not (frozen and "return_rms" in kept)]
    if len(layers) != len(around):
        raise ValueError(
            f"put_statistics: envs must be in {len(around)} wrappers that normalise, as those of "
            f"the state are, got {len(layers)}"
        )
    for layer, kept in zip(layers, around, strict=True):
        _put(layer, kept, frozen)
    _put_within(_inmost(envs), state["within"], frozen)


# -- around a vector ---------------------------------------------------------------------------


def _layers(envs: Environment) -> Iterator[Any]:
    """Wrappers of a vector that have something to keep."""
    layer: Any = envs
    while isinstance(layer, VectorWrapper):
        if _keeps_state(layer) or any(name in vars(layer) for name in _RUNNING):
            yield layer
        layer = layer.env


def _inmost(envs: Environment) -> Environment:
    while isinstance(envs, VectorWrapper):
        envs = envs.env
    return envs


def _keeps_state(layer: Any) -> bool:
    # Of the class: wrappers pass on what they do not know themselves.
    return all(hasattr(type(layer), name) for name in ("state_dict", "load_state_dict"))


def _of_rewards(layer: Any) -> bool:
    return "return_rms" in vars(layer)


def _taken(layer: Any) -> dict[str, Any]:
    if _keeps_state(layer):
        return {"state": layer.state_dict()}
    state = {name: _numbers(vars(layer)[name]) for name in _RUNNING if name in vars(layer)}
    return {**state, **{name: vars(layer)[name].copy() for name in _SUMS if name in vars(layer)}}


def _put(layer: Any, state: Mapping[str, Any], frozen: bool) -> None:
    if _taken(layer).keys() != state.keys():
        raise ValueError(
            f"put_statistics: {type(layer).__name__} must keep {', '.join(_taken(layer))}, "
            f"got {', '.join(state)}"
        )
    for name, value in state.items():
        if name == "state":
            layer.load_state_dict(value)
        else:
            setattr(layer, name, _running(value, frozen) if name in _RUNNING else value.copy())


# -- around each environment in it -------------------------------------------------------------


def _taken_within(envs: Environment) -> dict[str, list[Any]]:
    state: dict[str, list[Any]] = {}
    for name in _RUNNING:
        if _has(envs, name):
            state[name] = [_numbers(each) for each in _get(envs, name)]
    for name in _SUMS:
        if _has(envs, name):
            state[name] = [np.array(each) for each in _get(envs, name)]
    return state


def _put_within(envs: Environment, state: Mapping[str, list[Any]], frozen: bool) -> None:
    count = envs.num_envs if isinstance(envs, VectorEnv) else 1
    for name, values in state.items():
        if frozen and name != "obs_rms":
            continue
        if not _has(envs, name):
            raise ValueError(f"put_statistics: envs must be in wrappers that keep {name}, got none")
        if not frozen and len(values) != count:
            raise ValueError(
                f"put_statistics: envs must be {len(values)}, as those of the state, got {count}"
            )
        if name in _RUNNING:
            chosen = [_pooled(values)] * count if frozen else values
            _set(envs, name, [_running(each, frozen) for each in chosen])
        else:
            _set(envs, name, [each.copy() for each in values])


def _has(envs: Any, name: str) -> bool:
    if isinstance(envs, gymnasium.Env):
        return envs.has_wrapper_attr(name)
    try:
        return all(envs.call("has_wrapper_attr", name))
    except (AttributeError, NotImplementedError):  # not every vector has environments within
        return False


def _get(envs: Any, name: str) -> Any:
    if isinstance(envs, gymnasium.Env):
        return [envs.get_wrapper_attr(name)]
    return envs.get_attr(name)


def _set(envs: Any, name: str, values: list[Any]) -> None:
    if isinstance(envs, gymnasium.Env):
        envs.set_wrapper_attr(name, values[0])
    else:
        envs.set_attr(name, values)


# -- numbers -----------------------------------------------------------------------------------


class _Frozen(RunningMeanStd):
    """Statistics that no longer change."""

    def update(self, x: Any) -> None:
        """Leaves them as they are."""


def _numbers(running: Any) -> dict[str, Any]:
    """As they are: their dtypes decide how Gymnasium rounds."""
    return {name: copy.copy(getattr(running, name)) for name in ("mean", "var", "count")}


def _running(numbers: Mapping[str, Any], frozen: bool) -> Any:
    kind: Any = _Frozen if frozen else RunningMeanStd
    made = kind()
    made.mean, made.var, made.count = (copy.copy(numbers[x]) for x in ("mean", "var", "count"))
    return made


def _pooled(several: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics of all that each of these has seen."""
    if len(several) == 1:
        return several[0]
    count = sum(each["count"] for each in several)
    share = [each["count"] / count for each in several]
    mean = sum(part * each["mean"] for part, each in zip(share, several, strict=True))
    var = sum(
        part * (each["var"] + (each["mean"] - mean) ** 2)
        for part, each in zip(share, several, strict=True)
    )
    return {"mean": mean, "var": var, "count": count}

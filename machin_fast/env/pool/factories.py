"""What users give to say which environments they want, as functions that make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import Env
from gymnasium.envs.registration import EnvSpec

Maker = Callable[[], Env[Any, Any]]


def makers(
    env: str | EnvSpec | Maker | Sequence[Maker],
    num_envs: int | None,
    env_kwargs: Mapping[str, Any] | None,
) -> list[Maker]:
    """One function for each environment.

    Args:
        env: Name or spec in Gymnasium's registry, a function that makes an environment, or one
            for each environment.
        num_envs: How many; None where ``env`` says so.
        env_kwargs: For ``gymnasium.make``.

    Returns:
        As many functions as environments.

    Raises:
        ValueError: The number is missing, less than 1, or contradicts ``env``.
        TypeError: ``env`` is nothing of that, or takes no ``env_kwargs``.
    """
    if env_kwargs and not isinstance(env, str | EnvSpec):
        raise TypeError("ActorPool: env must be a name, got a function beside env_kwargs")
    if isinstance(env, Sequence) and not isinstance(env, str):
        found = list(env)
        if num_envs is not None and num_envs != len(found):
            raise ValueError(
                f"ActorPool: num_envs must be {len(found)}, as many as functions, got {num_envs}"
            )
    else:
        if num_envs is None:
            raise ValueError("ActorPool: num_envs must be given with one env, got None")
        if isinstance(env, str):  # workers may not know the name
            env = gymnasium.spec(env)
        make = _Registered(env, dict(env_kwargs or {})) if isinstance(env, EnvSpec) else env
        found = [make] * num_envs
    if not found:
        raise ValueError(f"ActorPool: num_envs must be at least 1, got {len(found)}")
    for one in found:
        if not callable(one):
            raise TypeError(f"ActorPool: env must be a name or functions, got {one!r}")
    return found


class _Registered:
    """Makes an environment by its spec."""

    def __init__(self, spec: EnvSpec, kwargs: dict[str, Any]) -> None:
        self.spec, self.kwargs = spec, kwargs

    def __call__(self) -> Env[Any, Any]:
        return gymnasium.make(self.spec, **self.kwargs)


class Shipment:
    """A worker's makers, with the names that its ``gymnasium.make`` must know.

    Workers do not import the main program, so what that registered travels along.
    """

    def __init__(self, found: Sequence[Maker]) -> None:
        self._makers = list(found)
        self._specs = [
            spec
            for spec in gymnasium.registry.values()
            if not str(spec.entry_point).startswith("gymnasium.")
        ]

    def __call__(self) -> list[Maker]:
        for spec in self._specs:
            gymnasium.registry.setdefault(spec.id, spec)
        return self._makers

"""How well a policy does."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import nn

from machin_fast.collect.acting import Acting, Actor
from machin_fast.collect.environments import Environments
from machin_fast.utils.stages import stage


def evaluate(
    envs: VectorEnv[Any, Any, Any] | gymnasium.Env[Any, Any],
    actor: Actor,
    *,
    episodes: int | None = None,
    seed: int | None = None,
    deterministic: bool = True,
    recurrent: bool | None = None,
) -> NDArray[np.float64]:
    """Plays episodes, one in each environment at a time.

    All are reset before. What happens in an environment after its episode counts nothing, so short
    episodes are not over-represented, and it does not matter how the environments reset.

    Args:
        envs: Environments for this purpose alone.
        actor, recurrent: As for ``Collector``.
        episodes: How many, at least 1. None: one in each environment.
        seed: Of the first episode; the others have the next ones. None: whatever comes next in
            each environment.
        deterministic: The ``mode`` of a policy acts. A function of the state acts as it is.

    Returns:
        ``[episodes]``, the sum of rewards of each.

    Raises:
        ValueError: ``episodes`` is below 1, or a module without ``mode`` shall act
            deterministically; or as by ``Collector``.
        TypeError: As by ``Collector``.
    """
    played = Environments(envs, "evaluate")
    if episodes is None:
        episodes = played.num_envs
    if episodes < 1:
        raise ValueError(f"evaluate: episodes must be at least 1, got {episodes}")
    acting = Acting(
        actor,
        deterministic=deterministic and isinstance(actor, nn.Module),
        recurrent=recurrent,
        op="evaluate",
    )
    with stage("evaluate"):
        rounds = [
            _one_each(played, acting, None if seed is None else seed + first)
            for first in range(0, episodes, played.num_envs)
        ]
    return np.concatenate(rounds)[:episodes]


def _one_each(played: Environments, acting: Acting, seed: int | None) -> NDArray[np.float64]:
    """The sum of rewards of one episode in each environment, ``[envs]``."""
    returns = np.zeros(played.num_envs)
    running = np.ones(played.num_envs, dtype=bool)
    played.reset(seed)
    while running.any():
        step = played.step(acting(played).action)
        returns += np.where(running, step.reward, 0)
        running[step.ended] = False
    return returns

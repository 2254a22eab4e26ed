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
    seed: int | None = None,
    deterministic: bool = True,
    recurrent: bool | None = None,
) -> NDArray[np.float64]:
    """Runs one episode in each environment.

    All are reset first. What happens in an environment after its episode counts nothing, so short
    episodes are not over-represented, and it does not matter how the environments reset.

    Args:
        envs: Environments for this purpose alone.
        actor, recurrent: As for ``Collector``.
        seed: Of the episodes. None: whatever comes next in each environment.
        deterministic: The ``mode`` of a policy acts. A function of the state acts as it is.

    Returns:
        ``[envs]``, the sum of rewards of each episode.

    Raises:
        ValueError: As by ``Collector``; a module without ``mode`` shall act deterministically.
        TypeError: As by ``Collector``.
    """
    played = Environments(envs, "evaluate")
    acting = Acting(
        actor,
        deterministic=deterministic and isinstance(actor, nn.Module),
        recurrent=recurrent,
        op="evaluate",
    )
    returns = np.zeros(played.num_envs)
    running = np.ones(played.num_envs, dtype=bool)
    with stage("evaluate"):
        played.reset(seed)
        while running.any():
            step = played.step(acting(played).action)
            returns += np.where(running, step.reward, 0)
            running[step.ended] = False
    return returns

"""Vectors of environments, seen alike however they reset themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

Rows: TypeAlias = "NDArray[Any] | Tensor"
"""``[envs, ...]``: arrays, or tensors of environments that work with these."""

_OBSERVABLE = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class Step(NamedTuple):
    """What one step did, in each environment.

    Attributes:
        reward: ``[envs]``.
        terminated, truncated: ``[envs]``, bool.
        ended: Which episodes ended, int64, ascending.
        final: The last observations of these, by name.
        lost: Which of these were lost with their worker, and did not take this step, int64.
    """

    reward: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    ended: NDArray[np.int64]
    final: dict[str, Rows]
    lost: NDArray[np.int64]


_NOBODY = np.zeros(0, dtype=np.int64)


class Environments:
    """Steps environments that reset themselves in the step after an episode's last (Gymnasium's
    default), in that step itself, or not at all: then they are reset here.

    Args:
        envs: A vector of environments, or a single one.
        op: Who asks, for errors.

    Attributes:
        observation: What is observed now, by name: ``state``, or ``state/key`` and so on of those
            that are nested.
        begun: ``[envs]``, bool: an episode begins with what is observed now.
        resetting: ``[envs]``, bool: in the next step this environment only resets itself.

    Raises:
        TypeError: ``envs`` is something else.
        ValueError: It does not say how it resets, or has spaces that no column can hold.
    """

    observation: dict[str, Rows]

    def __init__(
        self, envs: VectorEnv[Any, Any, Any] | gymnasium.Env[Any, Any], op: str = "Environments"
    ) -> None:
        if isinstance(envs, gymnasium.Env):
            single = envs
            envs = SyncVectorEnv([lambda: single], autoreset_mode=AutoresetMode.SAME_STEP)
        if not isinstance(envs, VectorEnv):
            raise TypeError(
                f"{op}: envs must be a gymnasium.vector.VectorEnv or a gymnasium.Env, "
                f"got {type(envs).__name__}"
            )
        mode = envs.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(
                f"{op}: envs must say how they reset, by an AutoresetMode in "
                f'metadata["autoreset_mode"], got {mode}'
            )
        leaves = named("state", envs.single_observation_space)
        self._is_nested = set(leaves) != {"state"}
        for name, space in leaves.items():
            if not isinstance(space, _OBSERVABLE):
                raise ValueError(
                    f"{op}: observations must be in a Box, Discrete, MultiDiscrete or "
                    f"MultiBinary, or a Dict or Tuple of these, got {space} for {name}"
                )
        self.envs = envs
        self.num_envs = envs.num_envs
        self._mode = mode
        self._as_actions = _Actions(envs.single_action_space, op)
        self.begun = np.zeros(self.num_envs, dtype=bool)
        self.resetting = np.zeros(self.num_envs, dtype=bool)

    def reset(self, seed: int | Sequence[int | None] | None = None) -> None:
        """Begins an episode everywhere."""
        observation, _ = self.envs.reset(seed=seed)  # type: ignore[arg-type]  # a list as well
        self.observation = self._named(observation)
        self.begun = np.ones(self.num_envs, dtype=bool)
        self.resetting = np.zeros(self.num_envs, dtype=bool)

    def step(self, action: Tensor) -> Step:
        """Takes a step.

        Args:
            action: ``[envs, ...]``, with as many entries a row as an action has.

        Raises:
            ValueError: It has other ones.
        """
        on_device = isinstance(next(iter(self.observation.values())), Tensor)
        actions = self._as_actions(action, self.num_envs, on_device)
        observation, reward, terminated, truncated, info = self.envs.step(actions)
        self.observation = self._named(observation)
        if on_device:
            reward, terminated, truncated = (
                x.cpu().numpy() for x in (reward, terminated, truncated)
            )
        ended = (terminated | truncated).nonzero()[0]
        restarted = info.get("_worker_restarted")  # as an ActorPool tells
        lost = _NOBODY if restarted is None else restarted.nonzero()[0]
        step = Step(reward, terminated, truncated, ended, {}, lost)
        self.begun, self.resetting = self.resetting, np.zeros(self.num_envs, dtype=bool)
        if ended.size:
            step.final.update(self._final(ended, info))
            if self._mode == AutoresetMode.NEXT_STEP:
                self.resetting[ended] = True
            else:
                self.begun[ended] = True
        return step

    def _final(self, ended: NDArray[np.int64], info: Mapping[str, Any]) -> dict[str, Rows]:
        if self._mode == AutoresetMode.SAME_STEP:
            return _rows_of(info["final_obs"], ended, self.observation)
        final = {name: rows[ended] for name, rows in self.observation.items()}
        if self._mode == AutoresetMode.DISABLED:
            mask = np.zeros(self.num_envs, dtype=bool)
            mask[ended] = True
            observation, _ = self.envs.reset(options={"reset_mask": mask})
            self.observation = self._named(observation)
        return final

    def _named(self, observation: Any) -> dict[str, Rows]:
        return named("state", observation) if self._is_nested else {"state": observation}


def named(name: str, value: Any) -> dict[str, Any]:
    """What is nested in observations or their space, by names such as ``state/outer/inner``."""
    if isinstance(value, spaces.Dict | spaces.Tuple):
        value = value.spaces
    if isinstance(value, tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {name: value}
    nested = [named(f"{name}/{key}", each) for key, each in value.items()]
    return {key: leaf for leaves in nested for key, leaf in leaves.items()}


def _rows_of(batched: Any, chosen: NDArray[np.int64], like: Mapping[str, Rows]) -> dict[str, Rows]:
    """Some rows of observations that come as a batch, or as an array of objects, one each."""
    if not (isinstance(batched, np.ndarray) and batched.dtype == object):
        return {name: rows[chosen] for name, rows in named("state", batched).items()}
    each = [named("state", batched[i]) for i in chosen]
    return {name: np.stack([one[name] for one in each]) for name in like}


class _Actions:
    """From what a policy chose to what environments take.

    Of a Box that is what the bounds leave of it: the policy may know none.
    """

    def __init__(self, space: gymnasium.Space[Any], op: str) -> None:
        if not isinstance(space, _OBSERVABLE):
            raise ValueError(
                f"{op}: actions must be in a Box, Discrete, MultiDiscrete or MultiBinary, "
                f"got {space}"
            )
        self._op = op
        self._space = space
        self._bounds: tuple[Any, Any] | None = None
        if isinstance(space, spaces.Box) and np.isfinite([space.low, space.high]).any():
            self._bounds = space.low, space.high

    def __call__(self, action: Tensor, envs: int, on_device: bool) -> Rows:
        shape = (envs, *(self._space.shape or ()))
        try:
            action = action.reshape(shape)
        except RuntimeError:
            raise ValueError(
                f"{self._op}: actor must return actions {list(shape)}, got {list(action.shape)}"
            ) from None
        if on_device:
            if self._bounds is not None:
                low, high = (torch.as_tensor(x, device=action.device) for x in self._bounds)
                action = action.clamp(low, high)
            return action
        chosen: NDArray[Any] = action.numpy().astype(self._space.dtype, copy=False)
        if self._bounds is None:
            return chosen
        low, high = self._bounds
        return np.minimum(np.maximum(chosen, low), high)  # np.clip takes twice as long

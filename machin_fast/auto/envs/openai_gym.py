"""Gymnasium's environments, as Machin's configurations name them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from machin_fast.auto.config import fill_default
from machin_fast.auto.dataset import DatasetResult, RLDataset, determine_precision, log_video

if TYPE_CHECKING:
    from machin_fast.algorithms import TorchFramework

_SIDE: dict[str, Any] = {
    "env_name": "CartPole-v1",
    "render_every_episode": 100,
    "act_kwargs": {},
}


def generate_env_config(config: Any = None) -> Any:
    """Fills a configuration with CartPole, to train and to test in.

    Args:
        config: Values that stay. None: an empty one.

    Returns:
        Another one.
    """
    default = {"env": "openai_gym", "train_env_config": _SIDE, "test_env_config": _SIDE}
    return fill_default(default, {} if config is None else config)


class _Episodes(RLDataset):
    """Plays an episode for each item.

    Args:
        frame: Which acts.
        env: The environment.
        render_every_episode: One in so many is filmed, where the environment can be.
        act_kwargs: Further arguments of what chooses actions.

    Raises:
        RuntimeError: The networks have parameters of several dtypes.
    """

    early_stopping_monitor = "total_reward"

    def __init__(
        self,
        frame: TorchFramework,
        env: gymnasium.Env[Any, Any],
        render_every_episode: int = 100,
        act_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.frame: Any = frame
        self.env = env
        self.render_every_episode = render_every_episode
        self.act_kwargs = dict(act_kwargs or {})
        self._precision = determine_precision(frame.top_models)
        self._episodes = 0
        self._films = env.render_mode == "rgb_array" and render_every_episode > 0

    def choose(self, state: Mapping[str, Tensor]) -> tuple[Any, Tensor]:
        """What the environment takes, and what is stored."""
        raise NotImplementedError

    def __next__(self) -> DatasetResult:
        result = DatasetResult()
        frames: list[Any] = []
        filmed = self._films and self._episodes % self.render_every_episode == 0
        self._episodes += 1
        observation, _ = self.env.reset()
        state, total, ended = self._state(observation), 0.0, False
        while not ended:
            if filmed:
                filmed = self._film(frames)
            with torch.no_grad():
                taken, stored = self.choose(state)
            observation, reward, terminated, truncated, info = self.env.step(taken)
            following, ended = self._state(observation), bool(terminated or truncated)
            result.add_observation(
                {
                    "state": state,
                    "action": {"action": stored},
                    "next_state": following,
                    "reward": float(reward),
                    "terminal": bool(terminated),
                }
            )
            if info:
                result.add_log({name: x for name, x in info.items() if np.ndim(x) == 0})
            state, total = following, total + float(reward)
        if frames:
            result.add_log({"video": (frames, log_video)})
        result.add_log({"total_reward": total})
        return result

    def _film(self, frames: list[Any]) -> bool:
        """Adds a picture; returns whether there may be another."""
        try:
            frames.append(self.env.render())
        except gymnasium.error.DependencyNotInstalled as error:
            warnings.warn(f"No episode is filmed: {error}", stacklevel=2)
            self._films = False
        return self._films

    def _state(self, observation: Any) -> dict[str, Tensor]:
        flat = torch.as_tensor(np.asarray(observation), dtype=self._precision)
        return {"state": flat.reshape(1, -1).to(self.frame.device)}


class RLGymDiscActDataset(_Episodes):
    """Episodes of an environment with discrete actions; see ``_Episodes``."""

    def choose(self, state: Mapping[str, Tensor]) -> tuple[int, Tensor]:
        act = getattr(self.frame, "act_discrete_with_noise", None) or self.frame.act
        found = act(state, **self.act_kwargs)
        action, *more = found if isinstance(found, tuple) else (found,)
        # Critics of deterministic actors judge probabilities.
        by_probability = hasattr(self.frame, "act_discrete") and not hasattr(self.frame, "qnet")
        stored = more[0] if by_probability else action.reshape(1, 1)
        return int(action.item()), stored


class RLGymContActDataset(_Episodes):
    """Episodes of an environment whose actions are vectors; see ``_Episodes``."""

    def choose(self, state: Mapping[str, Tensor]) -> tuple[Any, Tensor]:
        act = getattr(self.frame, "act_with_noise", None) or self.frame.act
        kwargs = self.act_kwargs
        if not kwargs and hasattr(self.frame, "act_with_noise"):
            kwargs = {"noise_param": (0.0, 0.1), "mode": "normal"}
        found = act(state, **kwargs)
        action = found[0] if isinstance(found, tuple) else found
        space: Any = self.env.action_space
        stored = action.reshape(1, -1)
        taken = stored.squeeze(0).cpu().numpy().reshape(space.shape)
        return np.clip(taken, space.low, space.high).astype(space.dtype), stored


def gym_env_dataset_creator(
    frame: TorchFramework, env_config: Mapping[str, Any]
) -> RLGymDiscActDataset | RLGymContActDataset:
    """Episodes of the environment that a configuration names.

    Args:
        frame: Which acts.
        env_config: ``env_name``, ``render_every_episode`` and ``act_kwargs``.

    Returns:
        The data set that suits the actions.

    Raises:
        ValueError: There is none for such actions or observations.
        CommandError: The environment cannot be made.
    """
    env = make(env_config)
    options = {
        "render_every_episode": env_config.get("render_every_episode", 100),
        "act_kwargs": env_config.get("act_kwargs"),
    }
    observations, actions = env.observation_space, env.action_space
    if isinstance(observations, spaces.Box):
        if isinstance(actions, spaces.Discrete):
            return RLGymDiscActDataset(frame, env, **options)
        if isinstance(actions, spaces.Box):
            return RLGymContActDataset(frame, env, **options)
    raise ValueError(
        f"Environment {env_config['env_name']} has observations in {observations} and actions in "
        f"{actions}, which is not supported: observations must be in a Box, actions in a Box or "
        "Discrete"
    )


def make(env_config: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """The environment that a configuration names, which can be filmed if it offers that.

    Args:
        env_config: ``env_name`` and ``render_every_episode``.

    Returns:
        The environment.

    Raises:
        CommandError: It cannot be made.
    """
    from machin_fast.auto.experiment import make_env

    name = env_config["env_name"]
    env = make_env(name, {})
    modes = env.metadata.get("render_modes", ())
    if "rgb_array" not in modes or not env_config.get("render_every_episode", 100):
        return env
    env.close()
    return make_env(name, {}, render_mode="rgb_array")


def launch(config: Any, pl_callbacks: Sequence[Any] | None = None) -> Any:
    """Trains what a configuration describes: see ``auto.config.launch``.

    Args:
        config: Complete.
        pl_callbacks: Of Lightning's Trainer, which then does it.

    Returns:
        What ended the run, or Lightning's trainer.
    """
    if pl_callbacks is not None:
        from machin_fast.auto.launcher import launch_with_lightning

        return launch_with_lightning(config, gym_env_dataset_creator, pl_callbacks)
    from machin_fast.auto.machin_form import launch_natively

    return launch_natively(config)

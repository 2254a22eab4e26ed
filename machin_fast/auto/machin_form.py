"""From Machin's form of a configuration to ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import torch

from machin_fast import algorithms
from machin_fast.algorithms.utils import get_globals_from_stack
from machin_fast.auto import config as machin
from machin_fast.auto import names
from machin_fast.auto.checks import check_keys, check_plain_names, check_schema
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment, options_of
from machin_fast.auto.presets import PRESETS
from machin_fast.training import Hooks, Settings, Trainer

if TYPE_CHECKING:
    from machin_fast.data import Trajectory
    from machin_fast.training import Outcome

_KNOWN = (
    "schema_version", "root_dir", "episode_per_epoch", "max_episodes", "early_stopping_patience",
    "frame", "frame_config", "gpus", "num_processes", "num_nodes",
    "env", "train_env_config", "test_env_config",
)  # fmt: skip
_SIDE = ("env_name", "render_every_episode", "act_kwargs")
_ROLLOUT = 16
_LONG_ROLLOUT = 256
_REPLAY_SIZE = 500_000  # Machin's default


def is_machins(config: Mapping[str, Any]) -> bool:
    """Whether a configuration has Machin's form."""
    return "frame" in config or "frame_config" in config


def check(config: Any, *, allow_import: bool = False) -> None:
    """Refuses what somebody wrote wrongly, before anything is made of it.

    Args:
        config: The configuration.
        allow_import: Names may import modules.

    Raises:
        CommandError: A key is unknown or missing, or a value not as it must be.
    """
    check_schema(config, machin.SCHEMA_VERSION)
    check_keys("config", config, _KNOWN)
    for complete in (
        machin.assert_training_config_complete,
        machin.assert_algorithm_config_complete,
        machin.assert_env_config_complete,
    ):
        try:
            complete(config)
        except (AssertionError, ValueError) as error:
            raise CommandError(str(error)) from error
    for name in ("train_env_config", "test_env_config"):
        _check_object(name, config[name])
        check_keys(f"config: {name}", config[name], _SIDE)
    _check_object("frame_config", config["frame_config"])
    known = _frame_keys(config["frame"])
    check_keys("config: frame_config", config["frame_config"], known)
    needed = ("models", "model_args", "model_kwargs")
    if missing := [key for key in needed if key not in config["frame_config"]]:
        raise CommandError(f"config: frame_config: {', '.join(missing)} must be given, got none")
    for name in ("episode_per_epoch", "max_episodes", "early_stopping_patience"):
        value = config.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CommandError(f"config: {name} must be a whole number, at least 1, got {value!r}")
    if not isinstance(config["root_dir"], str | Path):
        raise CommandError(f"config: root_dir must be text, got {config['root_dir']!r}")
    if not allow_import:
        strings = {key: value for key, value in dict(config).items() if key != "schema_version"}
        check_plain_names("config", strings)


def _check_object(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise CommandError(f"config: {name} must be an object, got {type(value).__name__}")


def _frame_keys(frame: str) -> list[str]:
    return [*getattr(algorithms, frame)._defaults(), "lazy", "compile"]


def has_own_networks(config: Any) -> bool:
    """Whether the networks of a configuration are somebody's own.

    Those that it was generated with, "QNet", "Actor" and "Critic", mean networks that suit the
    environment, unless there are classes of these names where a caller is.
    """
    models = config["frame_config"]["models"]
    if list(models) != getattr(algorithms, config["frame"])._defaults()["models"]:
        return True
    there = get_globals_from_stack()
    return all(isinstance(there.get(name), type) for name in models)


def experiment_of(config: Any) -> Experiment:
    """What a configuration describes whose networks are nobody's own.

    Args:
        config: Which was checked.

    Returns:
        The experiment: one environment, as many updates as steps, or one after each rollout for
        what learns on policy.

    Raises:
        CommandError: Something does not fit.
    """
    algo = names.algorithm(config["frame"])
    given = dict(config["frame_config"])
    options = {k: given[k] for k in options_of(PRESETS[algo].frame) if k in given}
    base = Experiment.of(algo, config["train_env_config"]["env_name"])
    replay = None
    if base.replay is not None:
        replay = {**base.replay, "capacity": given.get("replay_size", _REPLAY_SIZE)}
    return Experiment(
        algo=algo,
        env=base.env,
        envs=1,
        vector="sync",
        device=device_of(config),
        threads=base.threads,
        options=options,
        replay=replay,
        training=_settings(config, on_policy=replay is None),
    )


def device_of(config: Any) -> str:
    """Where the networks of a configuration shall be: on its first GPU, if there is one."""
    gpus = config["gpus"]
    if gpus and torch.cuda.is_available():
        return f"cuda:{gpus[0]}" if isinstance(gpus, list) else "cuda"
    return "cpu"


@dataclass(frozen=True)
class DecayingSettings(Settings):
    """The share of random actions falls with each action, as Machin lets it.

    Attributes:
        epsilon_decay: Its factor.
    """

    epsilon_decay: float = 0.9999

    def epsilon(self, step: int) -> float:
        return float(self.epsilon_decay**step)


def _settings(config: Any, *, on_policy: bool) -> Settings:
    spec = gymnasium.spec(config["train_env_config"]["env_name"])
    most = config["max_episodes"] * (spec.max_episode_steps or 1000)
    rollout = _LONG_ROLLOUT if on_policy else _ROLLOUT
    common: dict[str, Any] = {
        "steps": most,
        "rollout": rollout,
        "updates": 1 if on_policy else rollout,
        "evaluation_every": 5000,
        "evaluation_episodes": config["episode_per_epoch"],
    }
    decay = config["frame_config"].get("epsilon_decay")
    return Settings(**common) if decay is None else DecayingSettings(**common, epsilon_decay=decay)


class Episodes(Hooks):
    """Ends a run after so many episodes, or when they get no better.

    Args:
        config: In Machin's form.
    """

    def __init__(self, config: Any) -> None:
        self._most = config["max_episodes"]
        self._epoch = config["episode_per_epoch"]
        self._patience = config.get("early_stopping_patience", math.inf)
        self._returns: list[float] = []
        self._best = -math.inf
        self._worse = 0

    def on_rollout(self, trainer: Trainer, trajectory: Trajectory) -> None:
        self._returns += trainer.collector.episode_returns
        if trainer.progress.episodes >= self._most:
            trainer.stop(f"{self._most} episodes were played")
        while len(self._returns) >= self._epoch:
            mean = sum(self._returns[: self._epoch]) / self._epoch
            del self._returns[: self._epoch]
            self._worse = 0 if mean > self._best else self._worse + 1
            self._best = max(self._best, mean)
            if self._worse >= self._patience:
                trainer.stop(
                    f"{self._worse} times {self._epoch} episodes averaged no more than "
                    f"{self._best:.4g} (early_stopping_patience)"
                )


def launch_natively(config: Any) -> Outcome:
    """Trains what a configuration describes, by our loop.

    Args:
        config: Complete.

    Returns:
        What ended the run.

    Raises:
        CommandError: Something is unknown, or does not fit.
    """
    check(config, allow_import=True)  # who calls from Python can import anyway
    experiment = experiment_of(config)
    folder = Path(config["root_dir"])
    trainer = experiment.trainer(folder=folder, hooks=[Episodes(config)])
    if has_own_networks(config):
        frame = machin.init_algorithm_from_config(config, model_device=experiment.device)
        trainer = Trainer(
            frame,
            trainer.envs,
            trainer.settings,
            evaluation_envs=trainer.evaluation_envs,
            folder=folder,
            hooks=[Episodes(config)],
        )
    try:
        return trainer.train()
    finally:
        trainer.envs.close()
        if trainer.evaluation_envs is not None:
            trainer.evaluation_envs.close()

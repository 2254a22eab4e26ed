"""Configurations as Machin has them: made, checked, launched.

A configuration is a dict, or a ``utils.conf.Config``, of what a training run is made of: how long
(``root_dir``, ``episode_per_epoch``, ``max_episodes``, ``early_stopping_patience``), the algorithm
(``frame``, ``frame_config``, ``gpus``) and the environment (``env``, ``train_env_config``,
``test_env_config``).
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from machin_fast.auto import names

if TYPE_CHECKING:
    from machin_fast.algorithms import TorchFramework

SCHEMA_VERSION = 1

ENVIRONMENTS = ("openai_gym",)

_TRAINING: dict[str, Any] = {
    "root_dir": "trial",
    "episode_per_epoch": 10,
    "max_episodes": 10000,
    "early_stopping_patience": 3,
}
_ALGORITHM = ("frame", "frame_config", "gpus")
_DISTRIBUTED = ("num_processes", "num_nodes")
_ENVIRONMENT = ("env", "train_env_config", "test_env_config")


def fill_default(default: Mapping[str, Any], config: Any) -> Any:
    """Adds what a configuration lacks, also in what is nested in it.

    Args:
        default: Values by name.
        config: A dict or ``utils.conf.Config``; its values stay. It is not changed.

    Returns:
        Another one.
    """
    made = copy.deepcopy(config)
    for key, value in default.items():
        if key not in made:
            made[key] = copy.deepcopy(value)
        elif isinstance(value, Mapping) and isinstance(made[key], Mapping):
            made[key] = fill_default(value, made[key])
    return made


def get_available_algorithms() -> list[str]:
    """Names of algorithms' classes.

    Returns:
        Such as "DQN".
    """
    from machin_fast import algorithms

    return [name for name in algorithms.__all__ if name != "TorchFramework"]


def get_available_environments() -> list[str]:
    """Names of the modules of ``auto.envs``.

    Returns:
        ``["openai_gym"]``.
    """
    return list(ENVIRONMENTS)


def generate_training_config(
    root_dir: str = "trial",
    episode_per_epoch: int = 10,
    max_episodes: int = 10000,
    config: Any = None,
) -> Any:
    """Fills a configuration with how long to train, and where to.

    Args:
        root_dir: Folder of the run.
        episode_per_epoch: Episodes between looks at how it goes.
        max_episodes: Most episodes.
        config: Values that stay. None: an empty one.

    Returns:
        Another one.
    """
    given = {
        "root_dir": root_dir,
        "episode_per_epoch": episode_per_epoch,
        "max_episodes": max_episodes,
    }
    return fill_default({**_TRAINING, **given}, {} if config is None else config)


def generate_algorithm_config(algorithm: str, config: Any = None) -> Any:
    """Fills a configuration with what an algorithm takes.

    Args:
        algorithm: Name of its class, such as "DQN".
        config: Values that stay. None: an empty one.

    Returns:
        Another one.

    Raises:
        ValueError: There is no such algorithm.
    """
    kind = _algorithm(algorithm)
    default: dict[str, Any] = {"gpus": [0]}
    if kind.is_distributed():
        default = {"gpus": [0, 0, 0], "num_processes": 3, "num_nodes": 1}
    return kind.generate_config(fill_default(default, {} if config is None else config))


def generate_env_config(environment: str, config: Any = None) -> Any:
    """Fills a configuration with what an environment takes.

    Args:
        environment: One of ``get_available_environments``.
        config: Values that stay. None: an empty one.

    Returns:
        Another one.

    Raises:
        ValueError: There is no such environment.
    """
    return _environment(environment).generate_env_config(config)


def init_algorithm_from_config(config: Any, model_device: Any = "cpu") -> TorchFramework:
    """Makes the algorithm that a configuration describes.

    Args:
        config: Complete. ``models`` are classes, or names of classes that are global where a
            caller is.
        model_device: Where networks shall be.

    Returns:
        The algorithm.

    Raises:
        ValueError: Something is missing or unknown.
    """
    assert_algorithm_config_complete(config)
    return _algorithm(config["frame"]).init_from_config(config, model_device=model_device)


def is_algorithm_distributed(config: Any) -> bool:
    """Whether several processes take part in an algorithm.

    Args:
        config: With ``frame``.

    Returns:
        Whether they do.

    Raises:
        ValueError: There is no such algorithm.
    """
    return _algorithm(config["frame"]).is_distributed()


def assert_training_config_complete(config: Any) -> None:
    """Refuses a configuration that does not say how long to train, and where to.

    Args:
        config: The configuration.

    Raises:
        AssertionError: A value is missing.
    """
    _assert_has(config, tuple(_TRAINING)[:3], "generate_training_config")


def assert_algorithm_config_complete(config: Any) -> None:
    """Refuses a configuration that does not say which algorithm to use, and how.

    Args:
        config: The configuration.

    Raises:
        AssertionError: A value is missing.
        ValueError: There is no such algorithm.
    """
    _assert_has(config, _ALGORITHM, "generate_algorithm_config")
    if is_algorithm_distributed(config):
        _assert_has(config, _DISTRIBUTED, "generate_algorithm_config")


def assert_env_config_complete(config: Any) -> None:
    """Refuses a configuration that does not say which environment to use.

    Args:
        config: The configuration.

    Raises:
        AssertionError: A value is missing.
    """
    _assert_has(config, _ENVIRONMENT, "generate_env_config")


def launch(config: Any, pl_callbacks: Sequence[Any] | None = None) -> Any:
    """Trains what a configuration describes.

    Args:
        config: Complete: see ``generate_training_config``, ``generate_algorithm_config`` and
            ``generate_env_config``. ``models`` are classes, names of classes that are global where
            a caller is, or, as they were generated, networks that suit the environment.
        pl_callbacks: Callbacks of Lightning; they see ``total_reward``. If given, Lightning's
            Trainer does it, see ``auto.launcher``.

    Returns:
        What ended the run, see ``training.Outcome``; of Lightning its trainer.

    Raises:
        AssertionError: Something is missing.
        ValueError: Something is unknown, or does not fit.
        MissingExtraError: There are callbacks, and Lightning is not installed.
    """
    assert_training_config_complete(config)
    assert_algorithm_config_complete(config)
    assert_env_config_complete(config)
    return _environment(config["env"]).launch(config, pl_callbacks=pl_callbacks)


# -- help ----------------------------------------------------------------------------------------


def _algorithm(name: Any) -> Any:
    from machin_fast import algorithms

    known = get_available_algorithms()
    if name not in known:
        raise ValueError(f"config: frame: {names.unknown('algorithm', str(name), known)}")
    return getattr(algorithms, name)


def _environment(name: Any) -> Any:
    if name not in ENVIRONMENTS:
        raise ValueError(f"config: env: {names.unknown('environment', str(name), ENVIRONMENTS)}")
    return importlib.import_module(f"machin_fast.auto.envs.{name}")


def _assert_has(config: Any, keys: Sequence[str], cure: str) -> None:
    missing = [key for key in keys if key not in config]
    if missing:
        raise AssertionError(
            f"config: {', '.join(missing)} must be given, got {', '.join(config) or 'nothing'}. "
            f"Complete it by {cure}"
        )

"""Machin's automated training: episodes through Lightning's Trainer."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from machin_fast.auto.config import (
    init_algorithm_from_config,
    is_algorithm_distributed,
)
from machin_fast.auto.dataset import RLDataset
from machin_fast.utils.extras import need

need("lightning", extra="lightning", for_what="machin_fast.auto.launcher")

import lightning.pytorch as pl  # noqa: E402 (after what says how to install it)
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402

Creator = Callable[[Any, Mapping[str, Any]], RLDataset]
"""Makes the data set of an algorithm and an ``env_config``."""


class Launcher(pl.LightningModule):
    """Trains an algorithm on episodes that it plays: each is stored, then learned from, by as many
    updates as it had steps; by one of what learns on policy.

    ``total_reward`` of each episode is logged, and whatever else the data set tells.

    Args:
        config: Complete, see ``auto.config``.
        env_dataset_creator: Makes the episodes.

    Attributes:
        frame: The algorithm. Its networks are modules of this one, so that checkpoints hold them.

    Raises:
        ValueError: The algorithm is distributed, or something is unknown.
    """

    def __init__(self, config: Any, env_dataset_creator: Creator) -> None:
        super().__init__()
        if is_algorithm_distributed(config):
            raise ValueError(
                f"Launcher: frame must be an algorithm of one process, got {config['frame']}"
            )
        self.automatic_optimization = False
        self.config = config
        self.frame: Any = make_frame(config)
        self.env_dataset_creator = env_dataset_creator
        for name, model in zip(
            self.frame.get_top_model_names(), self.frame.top_models, strict=True
        ):
            self.add_module(name, model)

    def on_train_start(self) -> None:
        """Lets Lightning see each step."""
        attach(self, self.frame)

    def on_test_start(self) -> None:
        """Nothing is to be done."""

    def train_dataloader(self) -> DataLoader[Any]:
        """Episodes to learn from."""
        return self._episodes(self.config["train_env_config"])

    def test_dataloader(self) -> DataLoader[Any]:
        """Episodes to judge by."""
        return self._episodes(self.config["test_env_config"])

    def _episodes(self, env_config: Mapping[str, Any]) -> DataLoader[Any]:
        return DataLoader(self.env_dataset_creator(self.frame, env_config), collate_fn=_as_it_is)

    def training_step(self, batch: Any, _batch_idx: int) -> None:
        """Learns from an episode.

        Args:
            batch: The episode, in a list.
        """
        (episode,) = batch
        self.frame.store_episode(episode.observations)
        updates = len(episode) if hasattr(self.frame, "critic_target") or self._by_values else 1
        for _ in range(updates):
            self.frame.update()
        log_all(self, episode.logs)

    @property
    def _by_values(self) -> bool:
        return hasattr(self.frame, "qnet")

    def test_step(self, batch: Any, _batch_idx: int) -> None:  # noqa: PT019
        """Logs an episode.

        Args:
            batch: The episode, in a list.
        """
        (episode,) = batch
        log_all(self, episode.logs)

    def configure_optimizers(self) -> Any:
        """The algorithm's."""
        return self.frame.optimizers, self.frame.lr_schedulers


def make_frame(config: Any) -> Any:
    """The algorithm of a configuration, whoever's its networks are; see ``config.launch``."""
    from machin_fast.auto import machin_form

    device = machin_form.device_of(config)
    if machin_form.has_own_networks(config):
        return init_algorithm_from_config(config, model_device=device)
    experiment = machin_form.experiment_of(config)
    envs = experiment.make_envs(1)
    try:
        return experiment.make_algorithm(envs.single_observation_space, envs.single_action_space)
    finally:
        envs.close()


def attach(module: pl.LightningModule, algorithm: Any) -> None:
    """Lets a Lightning module take the steps of an algorithm, so that Lightning counts them.

    Args:
        module: Whose ``configure_optimizers`` gave the algorithm's optimizers.
        algorithm: The algorithm.
    """
    optimizers = module.optimizers()
    algorithm.optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    algorithm.set_backward_function(module.manual_backward)


def log_all(module: pl.LightningModule, logs: Sequence[Mapping[str, Any]]) -> None:
    """Logs what an episode told: numbers, and pairs of something and a function that logs it."""
    for log in logs:
        for name, value in log.items():
            if isinstance(value, tuple):
                what, function = value
                function(module, name, what)
            else:
                module.log(name, float(value), prog_bar=name == "total_reward", on_step=False,
                           on_epoch=True, batch_size=1)  # fmt: skip


def launch_with_lightning(
    config: Any, env_dataset_creator: Creator, pl_callbacks: Sequence[Any] = ()
) -> pl.Trainer:
    """Trains what a configuration in Machin's form describes, by Lightning.

    Args:
        config: Complete.
        env_dataset_creator: Makes the episodes.
        pl_callbacks: Further callbacks; they see ``total_reward``.

    Returns:
        Lightning's trainer, when it is done.
    """
    from machin_fast.auto.pl_logger import LocalMediaLogger

    root = Path(config["root_dir"])
    # An epoch is over after so many episodes: the best of all is kept, and a run that gets no
    # better ends.
    callbacks = [
        ModelCheckpoint(
            dirpath=root / "checkpoints", monitor="total_reward", mode="max", save_top_k=1,
            filename="{epoch:02d}-{total_reward:.2f}", save_on_train_epoch_end=True,
        ),
        EarlyStopping(
            monitor="total_reward", mode="max", patience=config.get("early_stopping_patience", 3),
            check_on_train_epoch_end=True,
        ),
        *pl_callbacks,
    ]  # fmt: skip
    epochs = math.ceil(config["max_episodes"] / config["episode_per_epoch"])
    module = Launcher(config, env_dataset_creator)
    with quiet():
        trainer = pl.Trainer(
            **hardware(str(module.frame.device)),
            default_root_dir=root,
            callbacks=callbacks,
            logger=[
                CSVLogger(str(root), name="logs"),
                LocalMediaLogger(str(root / "images"), str(root / "artifacts")),
            ],
            limit_train_batches=config["episode_per_epoch"],
            max_epochs=epochs,
            log_every_n_steps=1,
            enable_model_summary=False,
        )
        trainer.fit(module)
    return trainer


def hardware(device: str) -> dict[str, Any]:
    """Arguments of Lightning's Trainer for one of torch's devices."""
    kind = torch.device(device)
    if kind.type == "cuda":
        return {"accelerator": "gpu", "devices": [kind.index or 0]}
    return {"accelerator": "cpu", "devices": 1}


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's hints, which are about data sets on the disk."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*(num_workers|litlogger|TensorBoard).*")
            yield
    finally:
        logger.setLevel(level)


def _as_it_is(items: Any) -> Any:
    return items

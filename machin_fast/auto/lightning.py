"""``machin-fast launch --engine lightning``: our loop, driven by Lightning's Trainer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from machin_fast.auto.experiment import Experiment, default_folder
from machin_fast.utils.extras import need

need("lightning", extra="lightning", for_what="machin-fast launch --engine lightning")

import lightning.pytorch as pl  # noqa: E402 (after what says how to install it)
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402

from machin_fast.auto.launcher import attach, hardware, quiet  # noqa: E402


class _Turns(IterableDataset[int]):
    """Nothing but their number: what is learned from is collected in each turn."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __iter__(self) -> Any:
        return iter(range(self._count))


class ExperimentModule(pl.LightningModule):
    """Takes a turn of our loop in each step; an epoch goes from one evaluation to the next.

    It logs ``total_reward``, the mean of the episodes that ended in a turn, what the algorithm
    tells, and ``score``, the mean of each evaluation. A goal ends the run.

    Args:
        experiment: What to train.

    Attributes:
        loop: The ``training.Trainer``.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.experiment = experiment
        self.loop = experiment.trainer()
        self.algorithm: Any = self.loop.algorithm
        for name, model in zip(
            self.algorithm.get_top_model_names(), self.algorithm.top_models, strict=True
        ):
            self.add_module(name, model)

    @property
    def steps_of_a_turn(self) -> int:
        """Environment steps."""
        return self.experiment.envs * self.experiment.training.rollout

    @property
    def turns_of_an_epoch(self) -> int:
        """From one evaluation to the next."""
        every = self.experiment.training.evaluation_every or self.experiment.training.steps
        return math.ceil(every / self.steps_of_a_turn)

    def train_dataloader(self) -> DataLoader[int]:
        """Turns."""
        # With a generator of its own, or it would draw from torch's.
        turns = _Turns(self.turns_of_an_epoch)
        return DataLoader(turns, batch_size=None, generator=torch.Generator())

    def configure_optimizers(self) -> Any:
        """The algorithm's."""
        return self.algorithm.optimizers, self.algorithm.lr_schedulers

    def on_train_start(self) -> None:
        """Lets Lightning see each step."""
        attach(self, self.algorithm)

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Collects and learns."""
        self.loop.turn()
        returns = self.loop.collector.episode_returns
        if returns:
            mean = sum(returns) / len(returns)
            self.log("total_reward", mean, prog_bar=True, batch_size=len(returns))
        self.log("steps", float(self.loop.progress.steps), batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Tells the score, and ends the run at its goal."""
        score, goal = self.loop.progress.score, self.experiment.training.goal
        if score is not None:
            self.log("score", score, prog_bar=True)
            self.trainer.should_stop = goal is not None and score >= goal

    def close(self) -> None:
        """Closes the environments."""
        self.loop.envs.close()
        if self.loop.evaluation_envs is not None:
            self.loop.evaluation_envs.close()


def fit(experiment: Experiment, *, folder: Path | None = None, patience: int | None = None) -> int:
    """Trains what an experiment says, by Lightning.

    Args:
        experiment: What to train.
        folder: Of the run. None: a new one in ``runs``.
        patience: So many epochs whose ``total_reward`` is no better end the run. None: they do
            not.

    Returns:
        0 if the goal was reached, or there was none; 1 if the steps did not suffice.
    """
    folder = folder or default_folder(experiment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(experiment.to_json(), indent=2) + "\n")
    module = ExperimentModule(experiment)
    steps = experiment.training.steps
    turns = math.ceil(steps / module.steps_of_a_turn)
    judged = "score" if experiment.training.evaluation_every else "total_reward"
    callbacks: list[Any] = [
        ModelCheckpoint(
            dirpath=folder / "checkpoints", monitor=judged, mode="max", save_last=True,
            filename="{epoch:02d}-{" + judged + ":.2f}", save_on_train_epoch_end=True,
        )
    ]  # fmt: skip
    if patience is not None:
        callbacks.append(
            EarlyStopping(
                "total_reward", mode="max", patience=patience, check_on_train_epoch_end=True,
                strict=False,
            )
        )  # fmt: skip
    try:
        with quiet():
            trainer = pl.Trainer(
                **hardware(experiment.device),
                default_root_dir=folder,
                callbacks=callbacks,
                logger=CSVLogger(str(folder), name="logs"),
                max_epochs=math.ceil(turns / module.turns_of_an_epoch),
                log_every_n_steps=1,
                enable_model_summary=False,
            )
            trainer.fit(module)
    finally:
        module.close()
    progress, goal = module.loop.progress, experiment.training.goal
    reached = goal is not None and progress.score is not None and progress.score >= goal
    score = "" if progress.score is None else f"; the last evaluation averages {progress.score:.4g}"
    print(f"Lightning took {progress.steps:,} steps{score}. Checkpoints and figures: {folder}")
    return 0 if goal is None or reached else 1

"""Episodes as a data set: each item is one that was just played."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import IterableDataset

from machin_fast.utils.media import Picture, create_image, create_video


class DatasetResult:
    """What an episode gave.

    Args:
        observations: Its transitions. None: none yet.
        logs: Figures by name; a value may be a pair of something and a function of a module, a
            name and that, which logs it. None: none yet.
    """

    def __init__(
        self,
        observations: list[dict[str, Any]] | None = None,
        logs: list[Mapping[str, Any]] | None = None,
    ) -> None:
        self.observations = [] if observations is None else observations
        self.logs = [] if logs is None else logs

    def add_observation(self, obs: dict[str, Any]) -> None:
        """Adds a transition.

        Args:
            obs: The transition.
        """
        self.observations.append(obs)

    def add_log(self, log: Mapping[str, Any]) -> None:
        """Adds figures.

        Args:
            log: By name.
        """
        self.logs.append(log)

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.observations)


class RLDataset(IterableDataset[DatasetResult]):
    """Plays episodes, one for each item.

    Args:
        **_kwargs: Nothing is done with them.

    Attributes:
        early_stopping_monitor: Name of the figure that tells how good an episode was.
    """

    early_stopping_monitor = ""

    def __init__(self, **_kwargs: Any) -> None:
        super().__init__()

    def __iter__(self) -> RLDataset:
        return self

    def __next__(self) -> DatasetResult:
        raise StopIteration


def determine_precision(models: Sequence[nn.Module]) -> torch.dtype:
    """The dtype of models' parameters.

    Args:
        models: Of one dtype.

    Returns:
        It; torch's default if there are no parameters.

    Raises:
        RuntimeError: There are several.
    """
    found = {parameter.dtype for model in models for parameter in model.parameters()}
    if len(found) > 1:
        raise RuntimeError(
            "determine_precision: Multiple data types of parameters detected in models: they must "
            f"have one, got {', '.join(sorted(map(str, found)))}"
        )
    return found.pop() if found else torch.get_default_dtype()


def get_loggers_as_list(module: Any) -> list[Any]:
    """The loggers of a Lightning module's trainer.

    Args:
        module: The module.

    Returns:
        All of them; none if it has no trainer.
    """
    return list(getattr(module, "loggers", []))


def log_image(module: Any, name: str, image: Picture) -> None:
    """Gives a picture to all loggers of a module that take pictures.

    Args:
        module: A Lightning module.
        name: Of the picture.
        image: The picture, see ``utils.media``.
    """
    from machin_fast.auto.pl_logger import LocalMediaLogger

    for logger in get_loggers_as_list(module):
        if isinstance(logger, LocalMediaLogger):
            with tempfile.TemporaryDirectory() as folder:
                create_image(image, folder, name)
                logger.log_image(name, str(Path(folder) / f"{name}.png"))
        elif hasattr(logger.experiment, "add_image"):
            logger.experiment.add_image(name, image, module.global_step, dataformats="HWC")


def log_video(module: Any, name: str, video_frames: Sequence[Picture]) -> None:
    """Gives a video to all loggers of a module that keep files.

    Args:
        module: A Lightning module.
        name: Of the video.
        video_frames: Pictures, see ``utils.media``. Nothing is done without any.
    """
    from machin_fast.auto.pl_logger import LocalMediaLogger

    loggers = [each for each in get_loggers_as_list(module) if isinstance(each, LocalMediaLogger)]
    if not video_frames or not loggers:
        return
    with tempfile.TemporaryDirectory() as folder:
        create_video(video_frames, folder, name, extension=".gif")
        for logger in loggers:
            logger.log_artifact(str(Path(folder) / f"{name}.gif"))

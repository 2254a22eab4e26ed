"""Folders of trials."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from machin_fast.utils.logging import default_logger
from machin_fast.utils.prepare import prep_clear_dirs, prep_create_dirs


class SaveEnv:
    """The folders of one trial, named after the time when it began.

    They are ``<root>/<time>/`` with ``model``, ``config``, ``log/images`` and ``log/train_log``.

    Args:
        env_root: Folder of all trials.
        restart_from_trial: Name of the folder of an earlier trial, to go on there.
        time_format: How folders are named, for ``strftime``. Empty: ``env_root`` is the folder.
        create_sub_dirs: Whether to create the folders.

    Raises:
        ValueError: ``restart_from_trial`` is no time in that format.
    """

    def __init__(
        self,
        env_root: str | os.PathLike[str],
        restart_from_trial: str | None = None,
        time_format: str = "%Y_%m_%d_%H_%M_%S",
        create_sub_dirs: bool = True,
    ) -> None:
        self.env_root = env_root
        self.time_format = time_format
        if restart_from_trial is None:
            self.env_create_time = datetime.now()
        else:
            self.env_create_time = datetime.strptime(restart_from_trial, time_format)
        self._check_dirs()
        if create_sub_dirs:
            self.create_sub_dirs()

    def create_sub_dirs(self) -> None:
        """Creates the folders of the trial that are not there."""
        self.create_dirs(["model", "config", "log/images", "log/train_log"])

    def create_dirs(self, dirs: Iterable[str]) -> None:
        """Creates other folders in that of the trial.

        Args:
            dirs: Their names.
        """
        prep_create_dirs([Path(self.get_trial_root(), each) for each in dirs])

    def get_trial_root(self) -> str:
        """Folder of the trial."""
        return str(Path(self.env_root, self.env_create_time.strftime(self.time_format)))

    def get_trial_config_dir(self) -> str:
        """Folder of configurations."""
        return str(Path(self.get_trial_root(), "config"))

    def get_trial_model_dir(self) -> str:
        """Folder of models."""
        return str(Path(self.get_trial_root(), "model"))

    def get_trial_image_dir(self) -> str:
        """Folder of images."""
        return str(Path(self.get_trial_root(), "log", "images"))

    def get_trial_train_log_dir(self) -> str:
        """Folder of training logs."""
        return str(Path(self.get_trial_root(), "log", "train_log"))

    def get_trial_time(self) -> datetime:
        """When the trial began."""
        return self.env_create_time

    def clear_trial_config_dir(self) -> None:
        """Removes what is in the folder of configurations."""
        prep_clear_dirs([self.get_trial_config_dir()])

    def clear_trial_model_dir(self) -> None:
        """Removes what is in the folder of models."""
        prep_clear_dirs([self.get_trial_model_dir()])

    def clear_trial_image_dir(self) -> None:
        """Removes what is in the folder of images."""
        prep_clear_dirs([self.get_trial_image_dir()])

    def clear_trial_train_log_dir(self) -> None:
        """Removes what is in the folder of training logs."""
        prep_clear_dirs([self.get_trial_train_log_dir()])

    def remove_trials_older_than(
        self,
        diff_day: int = 0,
        diff_hour: int = 1,
        diff_minute: int = 0,
        diff_second: int = 0,
    ) -> None:
        """Removes the folders of other trials that began longer ago than this, by their names.

        Args:
            diff_day, diff_hour, diff_minute, diff_second: Together the time.
        """
        begin = datetime.now() - timedelta(
            days=diff_day, hours=diff_hour, minutes=diff_minute, seconds=diff_second
        )
        own = Path(self.get_trial_root())
        for folder in Path(self.env_root).iterdir():
            time = self._time_of(folder)
            if time is not None and time < begin and folder != own:
                default_logger.info(f"Removing trial directory: {folder}")
                shutil.rmtree(folder)

    def _time_of(self, path: Path) -> datetime | None:
        """When the trial of that folder began; None if it is not one of a trial."""
        if not path.is_dir() or path.is_symlink():
            return None
        try:
            return datetime.strptime(path.name, self.time_format)
        except ValueError:
            return None

    def _check_dirs(self) -> None:
        """Called before folders are created; override it to refuse what is there."""

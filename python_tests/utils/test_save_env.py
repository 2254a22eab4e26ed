"""Folders of trials."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from machin_fast.utils.save_env import SaveEnv

FORMAT = "%Y_%m_%d_%H_%M_%S"


def folders(root):
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_dir())


def name(**ago: float) -> str:
    return (datetime.now() - timedelta(**ago)).strftime(FORMAT)


def test_a_trial_has_its_folders_under_the_time_it_began(tmp_path):
    env = SaveEnv(str(tmp_path))
    (trial,) = tmp_path.iterdir()
    assert datetime.strptime(trial.name, FORMAT) == env.get_trial_time().replace(microsecond=0)
    assert folders(trial) == ["config", "log", "log/images", "log/train_log", "model"]
    assert env.get_trial_root() == str(trial)
    assert env.get_trial_config_dir() == str(trial / "config")
    assert env.get_trial_model_dir() == str(trial / "model")
    assert env.get_trial_image_dir() == str(trial / "log" / "images")
    assert env.get_trial_train_log_dir() == str(trial / "log" / "train_log")


def test_folders_are_created_when_they_are_wanted(tmp_path):
    env = SaveEnv(tmp_path / "root", create_sub_dirs=False)
    assert folders(tmp_path) == []
    env.create_dirs(["a", "b/c"])
    assert folders(tmp_path / "root" / env.get_trial_time().strftime(FORMAT)) == ["a", "b", "b/c"]
    env.create_sub_dirs()
    env.create_sub_dirs()
    assert "log/images" in folders(tmp_path / "root" / env.get_trial_time().strftime(FORMAT))


def test_an_older_trial_goes_on(tmp_path):
    env = SaveEnv(tmp_path, restart_from_trial="2020_05_09_15_00_31")
    assert env.get_trial_root() == str(tmp_path / "2020_05_09_15_00_31")
    assert env.get_trial_time() == datetime(2020, 5, 9, 15, 0, 31)
    with pytest.raises(ValueError, match="does not match format"):
        SaveEnv(tmp_path, restart_from_trial="yesterday")


def test_without_a_time_format_the_root_is_the_folder(tmp_path):
    env = SaveEnv(tmp_path, time_format="")
    assert env.get_trial_root() == str(tmp_path)
    assert folders(tmp_path) == ["config", "log", "log/images", "log/train_log", "model"]
    env.remove_trials_older_than(diff_hour=-1)
    assert len(folders(tmp_path)) == 5


@pytest.mark.parametrize("which", ["config", "model", "image", "train_log"])
def test_each_folder_can_be_cleared(tmp_path, which):
    env = SaveEnv(tmp_path)
    all_of = {
        each: getattr(env, f"get_trial_{each}_dir")()
        for each in ("config", "model", "image", "train_log")
    }
    for folder in all_of.values():
        (tmp_path / folder / "inner").mkdir()
        (tmp_path / folder / "inner" / "file").touch()
    getattr(env, f"clear_trial_{which}_dir")()
    for each, folder in all_of.items():
        assert len(list((tmp_path / folder).iterdir())) == (each != which)


def test_old_trials_are_removed_and_nothing_else(tmp_path):
    old, new, file, link = name(hours=2), name(minutes=50), name(days=2), name(days=3)
    for trial in (old, new):
        (tmp_path / trial / "model").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / file).touch()
    (tmp_path / link).symlink_to(tmp_path / "other")
    env = SaveEnv(tmp_path)
    own = env.get_trial_time().strftime(FORMAT)
    env.remove_trials_older_than()
    assert {each.name for each in tmp_path.iterdir()} == {own, new, "other", file, link}
    env.remove_trials_older_than(diff_hour=0, diff_minute=40, diff_second=30)
    assert {each.name for each in tmp_path.iterdir()} == {own, "other", file, link}


def test_ones_own_trial_stays(tmp_path):
    env = SaveEnv(tmp_path, restart_from_trial="2020_05_09_15_00_31")
    env.remove_trials_older_than()
    assert [each.name for each in tmp_path.iterdir()] == ["2020_05_09_15_00_31"]


def test_directories_can_be_checked_before_they_are_made(tmp_path):
    class Checked(SaveEnv):
        def _check_dirs(self):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Checked(tmp_path)
    assert folders(tmp_path) == []

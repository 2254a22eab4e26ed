"""Experiments through Lightning's own Trainer, where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from machin_fast.auto import config
from machin_fast.auto.cli import main

if importlib.util.find_spec("lightning") is None:
    pytest.skip("lightning is not installed", allow_module_level=True)

import lightning.pytorch as pl
import torch

from machin_fast.auto.dataset import log_image, log_video
from machin_fast.auto.envs.openai_gym import gym_env_dataset_creator
from machin_fast.auto.experiment import Experiment
from machin_fast.auto.launcher import Launcher
from machin_fast.auto.lightning import ExperimentModule
from machin_fast.auto.pl_logger import LocalMediaLogger


def machins(folder, frame="DQN", env="CartPole-v1", **changes):
    made = config.generate_training_config(str(folder), episode_per_epoch=3, max_episodes=6)
    made = config.generate_env_config("openai_gym", config.generate_algorithm_config(frame, made))
    for side in ("train_env_config", "test_env_config"):
        made[side].update(env_name=env, render_every_episode=0)
    return {**made, "early_stopping_patience": 10, **changes}


def figures(folder):
    with next(Path(folder).rglob("metrics.csv")).open() as file:
        return list(csv.DictReader(file))


class Seen(pl.Callback):
    def __init__(self):
        self.rewards = []

    def on_train_epoch_end(self, trainer, module):
        self.rewards.append(trainer.callback_metrics["total_reward"].item())


@pytest.mark.parametrize(
    ("frame", "env"), [("DQN", "CartPole-v1"), ("PPO", "CartPole-v1"), ("DDPG", "Pendulum-v1")]
)
def test_machins_launch_trains_and_callbacks_see_the_reward(frame, env, tmp_path):
    seen = Seen()
    made = machins(tmp_path, frame, env, max_episodes=1, episode_per_epoch=1)
    made["frame_config"]["batch_size"] = 8
    trainer = config.launch(made, pl_callbacks=[seen])
    assert trainer.current_epoch == 1
    assert trainer.global_step > 0
    rows = [float(row["total_reward"]) for row in figures(tmp_path) if row["total_reward"]]
    assert rows == pytest.approx(seen.rewards, rel=1e-5)
    (kept,) = (tmp_path / "checkpoints").glob("*.ckpt")
    state = torch.load(kept, weights_only=False)["state_dict"]
    assert any(name.startswith(("qnet.", "actor.")) for name in state)


def test_a_run_that_gets_no_better_ends(tmp_path):
    made = machins(tmp_path, max_episodes=10_000, episode_per_epoch=1, early_stopping_patience=1)
    made["frame_config"].update(learning_rate=0.0, epsilon_decay=1.0)
    assert config.launch(made, pl_callbacks=[]).current_epoch < 100


def test_each_step_of_an_episode_is_an_update(tmp_path):
    module = Launcher(machins(tmp_path), gym_env_dataset_creator)
    trainer = pl.Trainer(
        max_epochs=1, limit_train_batches=2, limit_test_batches=1, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    before = [x.clone() for x in module.frame.qnet.parameters()]
    trainer.fit(module)
    after = list(module.frame.qnet.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.global_step == len(module.frame.replay_buffer)
    (tested,) = trainer.test(module, verbose=False)
    assert tested["total_reward"] >= 1


@pytest.mark.parametrize("algo", ["dqn_per", "ppo"])
def test_the_same_experiment_goes_through_lightning(algo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--algo", algo, "--env", "CartPole-v1"]) == 0
    made = json.loads(Path("config.json").read_text())
    made.update(vector="native", networks={"hidden": [8]})
    made["training"].update(steps=512, warm_up=0, updates=1, rollout=16, evaluation_every=256,
                            evaluation_episodes=2)  # fmt: skip
    Path("config.json").write_text(json.dumps(made))
    words = ["launch", "--config", "config.json", "--engine", "lightning", "--folder", "out"]
    assert main(words) == 0
    assert "Lightning took 512 steps" in capsys.readouterr().out
    rows = figures("out")
    assert len([row for row in rows if row["score"]]) == 2
    assert max(float(row["steps"]) for row in rows if row["steps"]) == 512
    assert Path("out/checkpoints/last.ckpt").exists()


def test_lightnings_loop_learns_what_ours_learns():
    made = Experiment.of("ppo", "CartPole-v1").but(
        vector="native", networks={"hidden": [8]},
        training={"steps": 1024, "rollout": 32, "evaluation_every": 512, "evaluation_episodes": 2},
    )  # fmt: skip
    ours = made.trainer()
    ours.train()
    module = ExperimentModule(made)
    pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(module)  # fmt: skip
    assert module.loop.progress.evaluations == ours.progress.evaluations
    for a, b in zip(ours.algorithm.actor.parameters(), module.actor.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    module.close()


def test_pictures_and_files_are_kept_and_none_is_lost(tmp_path):
    logger = LocalMediaLogger(str(tmp_path / "images"), str(tmp_path / "files"))

    class Module:
        loggers = (logger,)

    picture = np.zeros((4, 4, 3), np.uint8)
    for _ in range(2):
        log_image(Module, "a", picture)
        log_video(Module, "film", [picture, picture])
    log_video(Module, "film", [])
    assert sorted(each.name for each in (tmp_path / "images").iterdir()) == ["a_0.png", "a_1.png"]
    assert sorted(each.name for each in (tmp_path / "files").iterdir()) == [
        "film.gif", "film_1.gif",
    ]  # fmt: skip
    logger.log_metrics({"x": 1.0}, 3)
    logger.log_hyperparams({})
    assert (logger.experiment, logger.name, logger.version) == (logger, "LocalMediaLogger", "0")
    with pytest.raises(ValueError, match="must lead to within"):
        logger.log_artifact(str(tmp_path / "files" / "film.gif"), "../../out.gif")


def test_lightning_is_imported_by_nobody_else():
    code = "import sys, machin_fast.auto.config, machin_fast.auto.envs.openai_gym\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('lightning' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"

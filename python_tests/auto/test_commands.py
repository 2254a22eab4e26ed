"""What the commands do, from training to watching, on small runs."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import pytest

from machin_fast.auto.cli import Profile, main
from machin_fast.auto.commands import enjoy as enjoy_command
from machin_fast.auto.commands.profile import Look
from machin_fast.auto.commands.settings import assignments, experiment_of
from machin_fast.auto.commands.tune import Judge
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment
from machin_fast.training import profile
from machin_fast.training.checkpoints import Checkpoints

SMALL = ["--vector", "native", "--hidden", "16", "--evaluation-episodes", "4",
         "--evaluation-every", "256", "--goal", "none"]  # fmt: skip
DQN = ["--algo", "dqn", "--env", "CartPole-v1", *SMALL, "--updates", "1", "--rollout", "8"]
PPO = ["--algo", "ppo", "--env", "CartPole-v1", *SMALL]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of a run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *PPO, "--steps", "1024", "--folder", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of it, in the present folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "run")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# -- train --------------------------------------------------------------------------------------


def test_a_run_leaves_what_is_needed_to_use_it(trained):
    assert Experiment.from_json(json.loads((trained / "config.json").read_text())).algo == "ppo"
    assert (trained / "learning_curve.png").exists()
    assert [each["step"] for each in lines(trained) if each["event"] == "evaluation"]
    assert len(list((trained / "best").iterdir())) == 1
    assert list((trained / "checkpoints").iterdir())


def test_options_are_what_is_trained(tmp_path, monkeypatch):
    from machin_fast.auto.cli import Train

    made = experiment_of(
        Train(
            algo="SAC", env="Pendulum-v1", steps=77, seed=3, envs=2, vector="sync", threads=1,
            batch_size=16, learning_rate=0.5, hidden=(4, 5), rollout=3, updates=2,
            evaluation_every=10, evaluation_episodes=1, checkpoint_every=9,
            option=("discount=0.5", "target-entropy=-3", "gradient_max=1e3"),
            env_option=("g=1.0",),
        )
    )  # fmt: skip
    assert (made.algo, made.envs, made.vector, made.env_options) == ("sac", 2, "sync", {"g": 1.0})
    assert made.networks["hidden"] == [4, 5]
    options = made.options
    assert {options[f"{each}_learning_rate"] for each in ("actor", "critic", "alpha")} == {0.5}
    assert (options["discount"], options["target_entropy"]) == (0.5, -3)
    training = made.training
    assert (training.steps, training.seed, training.rollout, training.updates) == (77, 3, 3, 2)
    assert (training.evaluation_every, training.checkpoint_every) == (10, 9)
    assert training.goal == -200


def test_a_goal_ends_a_run_and_one_out_of_reach_is_told(tmp_path, capsys):
    words = ["train", *DQN, "--steps", "600"]
    assert main([*words, "--goal", "1", "--folder", str(tmp_path / "a")]) == 0
    assert "Reached the goal of 1 after 256 steps" in capsys.readouterr().out
    assert main([*words, "--goal", "1e9", "--folder", str(tmp_path / "b")]) == 1
    assert "The goal of 1e+09 was not reached after 640 steps" in capsys.readouterr().out


def test_a_new_run_gets_a_folder_and_none_is_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", *DQN, "--steps", "64", "--evaluation-every", "0"]) == 0
    assert sorted(each.name for each in Path("runs").iterdir()) == [
        "dqn_CartPole-v1", "dqn_CartPole-v1_2",
    ]  # fmt: skip
    words = ["--steps", "64", "--folder", "runs/dqn_CartPole-v1"]
    assert main(["train", *DQN, *words]) == 2
    assert "--folder must have no run in it" in capsys.readouterr().err


def test_a_run_goes_on_where_it_was(run, capsys):
    assert main(["train", "--resume", "--folder", str(run), "--steps", "2048"]) == 0
    shown = capsys.readouterr().out
    assert "Going on from step 1,024." in shown
    assert "Done after 2,048 steps" in shown
    assert [each["step"] for each in lines(run) if each["event"] == "evaluation"][-1] == 2048
    assert json.loads((run / "config.json").read_text())["networks"]["hidden"] == [16]


def test_the_newest_run_alike_is_gone_on_with(run, capsys):
    Path("runs").mkdir()
    shutil.move(run, "runs/ppo_CartPole-v1_7")
    assert main(["train", "--resume", "--algo", "ppo", "--steps", "1100"]) == 0
    assert "runs/ppo_CartPole-v1_7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folder", "none"], "--resume needs a run that has a checkpoint"),
        (["--algo", "dqn"], "--resume needs a run that has a checkpoint"),
        (["--folder", "run", "--algo", "dqn"], "--algo must be that of the run to resume, ppo"),
        (["--folder", "run", "--env", "Pendulum-v1"], "--env must be that of the run to resume"),
    ],
)
def test_what_cannot_be_resumed_is_told(run, words, message, capsys):
    assert main(["train", "--resume", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.timeout(120)
def test_a_killed_run_goes_on(tmp_path):
    """With kill -9, whenever it comes, from the newest checkpoint that was whole."""
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "machin_fast", "train"]
    more = ["--steps", "10000000", "--checkpoint-every", "64", "--folder", str(folder)]
    running = subprocess.Popen([*words, *DQN, *more], stdout=subprocess.DEVNULL)
    while len(Checkpoints(folder / "checkpoints").all()) < 2:
        assert running.poll() is None
        time.sleep(0.02)  # until there is something to go on from
    running.kill()
    running.wait()
    step = Checkpoints(folder / "checkpoints").latest().step
    more = ["--resume", "--folder", str(folder), "--steps", str(step + 64)]
    done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Going on from step {step:,}." in done.stdout
    assert f"Done after {step + 64:,} steps" in done.stdout


def test_a_full_disk_is_told_and_spares_what_is_there(run, monkeypatch, capsys):
    before = Checkpoints(run / "checkpoints").all()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run / "checkpoints"))

    monkeypatch.setattr(Checkpoints, "save", full)
    assert main(["train", "--resume", "--folder", str(run), "--steps", "1100"]) == 2
    shown = capsys.readouterr().err
    assert f"the disk says of {run / 'checkpoints'}: No space left on device" in shown
    assert Checkpoints(run / "checkpoints").all() == before


def test_a_folder_that_cannot_be_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    words = ["--steps", "64", "--folder", str(tmp_path / "file" / "run")]
    assert main(["train", *DQN, *words]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_values_of_options_are_json_python_or_text():
    words = ["a=1", "b-c=[1, 2]", "d=(1, 2)", "e=true", "f=None", "g=x=y", "h="]
    assert assignments("option", words) == {
        "a": 1, "b_c": [1, 2], "d": [1, 2], "e": True, "f": None, "g": "x=y", "h": "",
    }  # fmt: skip
    with pytest.raises(CommandError, match="--option must be NAME=VALUE, got 'a'"):
        assignments("option", ["a"])


# -- evaluate and enjoy -------------------------------------------------------------------------


def test_a_policy_is_evaluated(run, capsys):
    assert main(["evaluate", str(run), "--episodes", "5", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["algo"], figures["env"], figures["episodes"]) == ("ppo", "CartPole-v1", 5)
    assert 1 <= figures["min"] <= figures["mean"] <= figures["max"] <= 500
    assert main(["evaluate", str(run), "--episodes", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == figures
    assert main(["evaluate", str(run), "--newest", "--episodes", "2"]) == 0
    assert "ppo in CartPole-v1, step 1,024: 2 greedy episodes average" in capsys.readouterr().out
    (best,) = (run / "best").iterdir()
    assert main(["evaluate", str(best), "--episodes", "1"]) == 0


def corrupt(folder):
    for path in folder.rglob("algorithm.mft"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("command", ["evaluate", "enjoy"])
def test_what_cannot_be_used_is_told(command, run, tmp_path, capsys):
    assert main([command, str(tmp_path / "none")]) == 2
    assert "there must be a run or a checkpoint in" in capsys.readouterr().err
    assert main([command, str(run), "--episodes", "0"]) == 2
    assert "--episodes must be at least 1, got 0" in capsys.readouterr().err
    corrupt(run)
    with pytest.warns(UserWarning, match="is passed over"):
        assert main([command, str(run), "--episodes", "1"]) == 2
    shown = capsys.readouterr().err
    assert "damaged" in shown and "Traceback" not in shown


def test_a_corrupt_checkpoint_is_told_when_a_run_shall_go_on(run, capsys):
    corrupt(run)
    with pytest.warns(UserWarning, match="is passed over"):
        assert main(["train", "--resume", "--folder", str(run)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_checkpoint_of_something_else_is_told(tmp_path, capsys):
    Checkpoints(tmp_path / "checkpoints").save({"algorithm": {"x": 1}}, step=1)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "does not say of which experiment it is" in capsys.readouterr().err


def test_a_policy_is_watched_in_a_window(run, monkeypatch, capsys):
    modes = []

    def make_env(env, options, render_mode):
        modes.append(render_mode)
        return gymnasium.make(env, **options)

    monkeypatch.setattr(enjoy_command, "make_env", make_env)
    assert main(["enjoy", str(run), "--episodes", "2"]) == 0
    assert modes == ["human"]
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "Episode 1", "Episode 2",
    ]  # fmt: skip


def test_a_machine_without_a_screen_is_told_to_film(run, monkeypatch, capsys):
    def blind(*args, **kwargs):
        raise RuntimeError("No available video device")

    monkeypatch.setattr(enjoy_command, "make_env", lambda env, *_, **__: gymnasium.make(env))
    monkeypatch.setattr(enjoy_command, "evaluate", blind)
    assert main(["enjoy", str(run)]) == 2
    shown = capsys.readouterr().err
    assert "No available video device. Film it by --record FOLDER" in shown


def test_a_policy_is_filmed(run, capsys):
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    assert main(["enjoy", str(run), "--episodes", "1", "--record", "films"]) == 0
    assert (Path("films") / "ppo_1.mp4").stat().st_size > 1000


# -- profile ------------------------------------------------------------------------------------


def test_any_training_can_be_profiled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["profile", *DQN, "--seconds", "0.3", "--output", "out", "--trace", "out/trace.json"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for stage in ("env", "act", "store", "sample", "learn", "other"):
        assert any(line.split()[:1] == [stage] for line in shown.splitlines()), stage
    assert "Slowest stage: " in shown
    summary = json.loads(Path("out/profile.json").read_text())
    assert summary["seconds"] >= 0.3
    assert summary["steps"] > 0 and summary["updates"] > 0
    assert Path("out/profile.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(Path("out/trace.json").read_text())["traceEvents"]) > 10
    assert [each.name for each in Path().iterdir()] == ["out"]


def test_a_profile_begins_when_learning_does():
    look = Look(profile(), seconds=60)
    look.on_update(None, {})
    assert look.profile.seconds == pytest.approx(0, abs=1)
    assert look.profile._state == "new"
    look.on_update(None, {"value_loss": 1.0})
    assert look.profile._state == "open"
    look.close()
    look.close()
    assert look.profile._state == "closed"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--seconds", "0"], "--seconds must be above 0"), (["--resume"], "--resume has no meaning")],
)
def test_what_cannot_be_profiled_is_told(words, message, capsys):
    assert main(["profile", *DQN, *words]) == 2
    assert message in capsys.readouterr().err


def test_a_profile_takes_what_training_takes():
    assert experiment_of(Profile(algo="ppo", env="CartPole-v1", envs=3)).envs == 3


# -- launch -------------------------------------------------------------------------------------


def test_an_edited_config_is_launched_and_gone_on_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--algo", "dqn", "--env", "CartPole-v1"]) == 0
    config = json.loads(Path("config.json").read_text())
    config.update(vector="native", networks={"hidden": [8]})
    config["training"].update(steps=256, warm_up=0, updates=1, evaluation_every=0)
    Path("config.json").write_text(json.dumps(config))
    words = ["launch", "--config", "config.json", "--folder", "out"]
    assert main(words) == 0
    assert "Done after 256 steps" in capsys.readouterr().out
    assert main(words) == 2
    config["training"]["steps"] = 512
    Path("config.json").write_text(json.dumps(config))
    assert main([*words, "--resume"]) == 0
    assert "Going on from step 256." in capsys.readouterr().out
    assert main(["launch", "--config", "out/config.json", "--resume"]) == 2
    assert "--folder must be given with --resume" in capsys.readouterr().err


def test_machins_commands_train(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [sys.executable, "-m", "machin_fast.auto"]
    generate = ["generate", "--algo", "DQN", "--env", "openai_gym", "--output", "config.json"]
    subprocess.run([*words, *generate], check=True, capture_output=True)
    config = json.loads(Path("config.json").read_text())
    config.update(max_episodes=8, episode_per_epoch=4, root_dir="here")
    Path("config.json").write_text(json.dumps(config))
    assert main(["launch", "--config", "config.json"]) == 0
    assert "8 episodes were played" in capsys.readouterr().out
    assert main(["evaluate", "here", "--newest", "--episodes", "2"]) == 0


NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 2))

    def forward(self, state):
        return super().forward(state)
"""


def test_modules_are_imported_only_with_leave(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("networks_of_mine.py").write_text(NETWORK)
    assert main(["generate", "--algo", "DQN", "--env", "openai_gym"]) == 0
    config = json.loads(Path("config.json").read_text())
    config.update(max_episodes=2, root_dir="here")
    config["frame_config"]["models"] = ["networks_of_mine.Net"] * 2
    Path("config.json").write_text(json.dumps(config))
    assert main(["launch", "--config", "config.json"]) == 2
    assert "say --allow-import" in capsys.readouterr().err
    assert "networks_of_mine" not in sys.modules
    assert main(["launch", "--config", "config.json", "--allow-import"]) == 0
    assert "Ended (2 episodes were played)" in capsys.readouterr().out
    assert sys.modules.pop("networks_of_mine")


def test_lightning_where_it_is_not_installed_gives_the_line_that_installs_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lightning" else find_spec(name)
    )
    monkeypatch.delitem(sys.modules, "machin_fast.auto.lightning", raising=False)
    assert main(["generate", "--algo", "ppo", "--env", "CartPole-v1"]) == 0
    assert main(["launch", "--config", "config.json", "--engine", "lightning"]) == 2
    assert "pip install 'machin_fast[lightning]'" in capsys.readouterr().err


# -- bench and tune -----------------------------------------------------------------------------


def test_bench_measures_all_it_says(monkeypatch, capsys):
    from machin_fast.auto.commands import bench

    monkeypatch.setattr(bench, "_SECONDS", 0.01)
    assert main(["bench", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["per_second"]
    assert set(found) == set(bench.WORK)
    assert all(each > 0 for each in found.values())
    assert main(["bench"]) == 0
    assert "GAE" in capsys.readouterr().out


def test_tuning_writes_what_can_be_launched(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    words = ["tune", "--algo", "ppo", "--env", "CartPole-v1", "--trials", "2", "--steps", "600"]
    assert main(words) == 0
    assert "Trial 2" in capsys.readouterr().out
    assert Experiment.from_json(json.loads(Path("tuned.json").read_text())).algo == "ppo"


def test_a_trial_that_others_beat_is_given_up():
    class Trial:
        def report(self, score, step):
            self.reported = score, step

        def should_prune(self):
            return self.reported[0] < 5

    class Told:
        progress = type("Progress", (), {"steps": 3})
        stopped = None

        def stop(self, message):
            self.stopped = message

    import numpy as np

    trial, trainer = Trial(), Told()
    judge = Judge(trial)
    judge.on_evaluation(trainer, np.array([9.0]))
    assert (judge.best, judge.pruned, trainer.stopped) == (9.0, False, None)
    judge.on_evaluation(trainer, np.array([1.0, 3.0]))
    assert (judge.best, judge.pruned, trial.reported) == (9.0, True, (2.0, 3))
    assert trainer.stopped

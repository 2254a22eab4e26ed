"""Machin's configurations, and what a file may not hold."""

from __future__ import annotations

import json
import random
import string

import pytest
import torch
from torch import nn

from machin_fast.algorithms import DQN
from machin_fast.auto import checks, config, machin_form
from machin_fast.auto.checks import check_plain_names, check_size, read_config
from machin_fast.auto.cli import main
from machin_fast.auto.commands.generate import machins
from machin_fast.auto.dataset import DatasetResult, RLDataset, determine_precision
from machin_fast.auto.envs import openai_gym
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment
from machin_fast.utils.conf import Config


class OwnQNet(nn.Module):
    def __init__(self, state_dim=4, action_num=2):
        super().__init__()
        self.layer = nn.Linear(state_dim, action_num)

    def forward(self, state):
        return self.layer(state)


def complete(frame="DQN", **changes):
    made = config.generate_training_config()
    made = config.generate_algorithm_config(frame, made)
    return {**config.generate_env_config("openai_gym", made), **changes}


# -- Machin's functions -------------------------------------------------------------------------


def test_defaults_fill_what_is_missing_at_any_depth():
    given = {"a": 1, "b": {"c": 2}}
    made = config.fill_default({"a": 0, "b": {"c": 0, "d": 3}, "e": []}, given)
    assert made == {"a": 1, "b": {"c": 2, "d": 3}, "e": []}
    assert given == {"a": 1, "b": {"c": 2}}
    filled = config.fill_default({"x": 1, "y": 2}, Config(x=5))
    assert isinstance(filled, Config)
    assert (filled.x, filled.y) == (5, 2)


def test_the_configuration_is_machins():
    made = complete()
    assert {name: made[name] for name in ("root_dir", "episode_per_epoch", "max_episodes")} == {
        "root_dir": "trial", "episode_per_epoch": 10, "max_episodes": 10000,
    }  # fmt: skip
    assert (made["early_stopping_patience"], made["gpus"], made["frame"]) == (3, [0], "DQN")
    assert made["frame_config"]["models"] == ["QNet", "QNet"]
    side = {"env_name": "CartPole-v1", "render_every_episode": 100, "act_kwargs": {}}
    assert made["env"] == "openai_gym"
    assert made["train_env_config"] == made["test_env_config"] == side
    assert config.get_available_environments() == ["openai_gym"]
    assert {"DQN", "PPO", "SAC", "DQNPer"} <= set(config.get_available_algorithms())
    assert not config.is_algorithm_distributed(made)


def test_values_that_are_given_stay():
    made = config.generate_training_config("here", config={"max_episodes": 3})
    assert (made["root_dir"], made["max_episodes"]) == ("here", 3)
    made = config.generate_algorithm_config("DQN", {"frame_config": {"batch_size": 7}})
    assert made["frame_config"]["batch_size"] == 7
    assert isinstance(config.generate_env_config("openai_gym", Config(root_dir="x")), Config)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: config.generate_algorithm_config("DQM"),
        lambda: config.generate_env_config("openai_gim"),
        lambda: config.init_algorithm_from_config(complete(frame="DQM")),
        lambda: config.is_algorithm_distributed({"frame": "os"}),
        lambda: config.launch(complete(env="openai_gim")),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(refused):
    with pytest.raises(ValueError, match=r"unknown (algorithm|environment)"):
        refused()


@pytest.mark.parametrize(
    ("check", "lacking"),
    [
        (config.assert_training_config_complete, "max_episodes"),
        (config.assert_algorithm_config_complete, "frame_config"),
        (config.assert_env_config_complete, "test_env_config"),
    ],
)
def test_what_is_missing_is_named(check, lacking):
    made = complete()
    check(made)
    del made[lacking]
    with pytest.raises(AssertionError, match=f"config: {lacking} must be given"):
        check(made)


def test_an_algorithm_is_made_of_a_callers_networks():
    made = complete()
    made["frame_config"].update(models=["OwnQNet", OwnQNet], model_kwargs=[{}, {"action_num": 2}])
    frame = config.init_algorithm_from_config(made)
    assert isinstance(frame, DQN)
    assert isinstance(frame.qnet, OwnQNet)


@pytest.mark.parametrize("frame", ["DQN", "PPO"])
def test_launching_from_python_trains(frame, tmp_path):
    made = complete(frame, root_dir=str(tmp_path / "run"), max_episodes=12, episode_per_epoch=4)
    outcome = config.launch(made)
    assert outcome.reason == "stopped"
    assert outcome.progress.episodes >= 12
    assert outcome.progress.updates > 0
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_launching_with_networks_of_ones_own_trains_these(tmp_path):
    class Watched(OwnQNet):
        calls = 0

        def forward(self, state):
            Watched.calls += 1
            return super().forward(state)

    made = complete(root_dir=str(tmp_path / "run"), max_episodes=3)
    made["frame_config"]["models"] = [Watched, Watched]
    config.launch(made)
    assert Watched.calls > 20


def test_no_progress_ends_a_run(tmp_path):
    made = complete(root_dir=str(tmp_path / "run"), episode_per_epoch=2)
    made["frame_config"]["learning_rate"] = 0.0
    made["frame_config"]["epsilon_decay"] = 1.0
    outcome = config.launch(made)
    assert "early_stopping_patience" in outcome.message
    assert outcome.progress.steps < 20_000


def test_random_actions_become_fewer_as_machin_lets_them():
    settings = machin_form.experiment_of(complete()).training
    assert settings.epsilon(0) == 1
    assert settings.epsilon(10_000) == pytest.approx(0.9999**10_000)
    assert (settings.rollout, settings.updates) == (16, 16)


# -- episodes -----------------------------------------------------------------------------------


def episodes(frame, env="CartPole-v1", **kwargs):
    experiment = Experiment.of(frame, env)
    envs = experiment.make_envs(1)
    made = experiment.make_algorithm(envs.single_observation_space, envs.single_action_space)
    envs.close()
    given = {"env_name": env, "render_every_episode": 0, **kwargs}
    return made, openai_gym.gym_env_dataset_creator(made, given)


@pytest.mark.parametrize(
    ("frame", "env", "kind"),
    [
        ("dqn", "CartPole-v1", openai_gym.RLGymDiscActDataset),
        ("ppo", "CartPole-v1", openai_gym.RLGymDiscActDataset),
        ("ddpg", "Pendulum-v1", openai_gym.RLGymContActDataset),
        ("sac", "Pendulum-v1", openai_gym.RLGymContActDataset),
    ],
)
def test_an_item_is_an_episode_that_can_be_learned_from(frame, env, kind):
    algorithm, data = episodes(frame, env)
    assert isinstance(data, kind)
    assert data.early_stopping_monitor == "total_reward"
    episode = next(iter(data))
    assert isinstance(episode, DatasetResult)
    first, last = episode.observations[0], episode.observations[-1]
    assert first["state"]["state"].shape == (1, 4 if env == "CartPole-v1" else 3)
    assert first["next_state"]["state"] is episode.observations[1]["state"]["state"]
    total = sum(step["reward"] for step in episode.observations)
    assert episode.logs[-1] == {"total_reward": pytest.approx(total)}
    assert last["terminal"] == (env == "CartPole-v1")  # Pendulum's episodes are cut off
    algorithm.store_episode(episode.observations)
    algorithm.update()


def test_spaces_without_episodes_are_refused():
    frozen_lake, _ = episodes("ppo")
    with pytest.raises(ValueError, match="not supported"):
        openai_gym.gym_env_dataset_creator(frozen_lake, {"env_name": "Blackjack-v1"})


def test_results_and_precision():
    result = DatasetResult()
    result.add_observation({"reward": 1})
    result.add_log({"x": 2})
    assert (len(result), result.logs) == (1, [{"x": 2}])
    with pytest.raises(StopIteration):
        next(RLDataset(anything=1))
    layers = nn.Linear(1, 1), nn.Linear(1, 1).double()
    assert determine_precision(layers[1:]) == torch.float64
    with pytest.raises(RuntimeError, match="Multiple data types of parameters"):
        determine_precision(layers)


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["DQN", "ppo", "sac"])
@pytest.mark.parametrize("env", ["openai_gym", "CartPole-v1"])
def test_what_is_generated_can_be_launched(algo, env, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--algo", algo, "--env", env, "--print"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert main(["generate", "--algo", algo, "--env", env, "--output", "new/c.json"]) == 0
    made = read_config(tmp_path / "new" / "c.json")
    assert made == shown
    if env == "openai_gym":
        machin_form.check(made)
        made = machin_form.experiment_of(made).to_json()
        made["training"].pop("epsilon_decay", None)
    assert Experiment.from_json(made).algo == algo.lower()
    assert main(["generate", "--algo", algo, "--env", env, "--output", "new/c.json"]) == 2
    assert "--output must be a new file" in capsys.readouterr().err


DQN_CONFIG = machins("DQN", "openai_gym")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_episode": 3}, "unknown key 'max_episode'. Did you mean 'max_episodes'?"),
        ({"max_episodes": 0}, "max_episodes must be a whole number, at least 1, got 0"),
        ({"frame": "DQM"}, "unknown algorithm 'DQM'. Did you mean 'DQN'?"),
        ({"frame": ["DQN"]}, "unknown algorithm"),
        ({"frame_config": 3}, "frame_config must be an object, got int"),
        ({"frame_config": {}}, "models, model_args, model_kwargs must be given"),
        ({"frame_config": {"batch_siz": 3}}, "unknown key 'batch_siz'. Did you mean 'batch_size'?"),
        ({"train_env_config": {"env_nam": 3}}, "unknown key 'env_nam'. Did you mean 'env_name'?"),
        ({"root_dir": "../elsewhere"}, "root_dir must not lead out of this folder"),
        ({"root_dir": "/etc"}, "root_dir must not lead out of this folder, got '/etc'"),
        ({"root_dir": "~/x"}, "root_dir must not lead out of this folder"),
        ({"root_dir": "a\\..\\..\\b"}, "root_dir must not lead out of this folder"),
        ({"root_dir": 3}, "root_dir must be text, got 3"),
        ({"schema_version": 99}, "schema_version must be a whole number up to 1, got 99"),
        (
            {"frame_config": {**DQN_CONFIG["frame_config"], "models": ["os.system"] * 2}},
            "models ['os.system', 'os.system'] are nobody's here",
        ),
        (
            {"frame_config": {**DQN_CONFIG["frame_config"], "optimizer": "subprocess.Popen"}},
            "unknown optimizer 'subprocess.Popen'",
        ),
        ({"train_env_config": {"env_name": "os:x"}, "test_env_config": {}}, "would import"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(changes, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.json").write_text(json.dumps({**DQN_CONFIG, **changes}))
    assert main(["launch", "--config", "c.json"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("machin-fast: ")
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must hold an object, got list"),
        ('{"a": 1, "a": 2}', "each key must stand once, got 'a' again"),
        ('{"a": ' * 20 + "1" + "}" * 20, "at most 16 deep"),
        ("[" * 100_000, "must be JSON"),
        (json.dumps({"a": list(range(20_000))}), "at most 10000 values"),
        (" " * (checks.MOST_BYTES + 1), "at most 1048576 bytes"),
        ("\ufffe", "must be JSON"),
    ],
)
def test_a_file_that_is_no_config_is_refused(text, message, tmp_path, capsys):
    (tmp_path / "c.json").write_text(text)
    assert main(["launch", "--config", str(tmp_path / "c.json")]) == 2
    assert message in capsys.readouterr().err
    assert main(["launch", "--config", str(tmp_path / "none.json")]) == 2
    assert "must be a file to read" in capsys.readouterr().err


def test_sizes_and_names_are_judged_at_their_limits():
    deep: object = 1
    for _ in range(checks.MOST_DEPTH - 1):
        deep = [deep]
    check_size(deep)
    with pytest.raises(CommandError, match="deep"):
        check_size([deep])
    check_plain_names("x", {"a": ["CartPole-v1", "runs/a", "ALE/Pong-v5", "..."], "b": 3})
    for bad in ("..", "a/../../b", "/a", "~a", "a\0b", "C:/x", "mod:Env-v0"):
        with pytest.raises(CommandError):
            check_plain_names("x", {"a": [bad]})


def test_a_broken_config_is_told_in_one_line_whatever_is_in_it(tmp_path, capsys):
    """Fuzz: a good config in which something is exchanged, cut off or added."""
    rng = random.Random(0)
    values = [None, True, -1, 0, 1e308, float("nan"), "", "../x", "os.system", [], [[]], {}, "é"]
    base = [DQN_CONFIG, Experiment.of("ppo", "CartPole-v1").to_json()]
    path = tmp_path / "c.json"
    told = 0
    for i in range(150):
        data = json.loads(json.dumps(base[i % 2]))
        part = data
        while True:
            key = rng.choice(list(part))
            if not isinstance(part[key], dict) or not part[key] or rng.random() < 0.5:
                break
            part = part[key]
        if rng.random() < 0.2:
            key = "".join(rng.choices(string.printable, k=5))
        part[key] = rng.choice(values)
        text = json.dumps(data)
        path.write_text(text[: rng.randrange(len(text))] if rng.random() < 0.2 else text)
        try:
            read = read_config(path)
            if machin_form.is_machins(read):
                machin_form.check(read)
                machin_form.experiment_of(read)
            else:
                Experiment.from_json(read)
        except CommandError:  # and nothing else
            told += 1
    assert told > 75

"""Experiments: presets, JSON, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields

import gymnasium
import pytest
import torch

from machin_fast import algorithms
from machin_fast.auto import names
from machin_fast.auto.errors import CommandError
from machin_fast.auto.experiment import Experiment, default_folder, options_of
from machin_fast.auto.presets import FOR_ENVIRONMENTS, PRESETS, preset
from machin_fast.training import Settings

CASES = [
    (algo, env)
    for algo, each in PRESETS.items()
    for env, actions in (("CartPole-v1", "discrete"), ("Pendulum-v1", "bounded"))
    if actions in each.actions
]


# -- presets ------------------------------------------------------------------------------------


def test_each_algorithm_has_a_preset():
    frames = {each.frame for each in PRESETS.values()}
    assert frames == set(algorithms.__all__) - {"TorchFramework"}


def test_presets_say_what_there_is_to_say():
    training = {each.name for each in fields(Settings)}
    for algo, each in PRESETS.items():
        assert set(each.options) <= set(options_of(each.frame)), algo
        assert set(each.training) <= training, algo
    assert all(gymnasium.spec(env) for _, env in FOR_ENVIRONMENTS)
    assert all(algo in PRESETS for algo, _ in FOR_ENVIRONMENTS)


def test_presets_differ_by_actions_images_and_environment():
    assert preset("ppo", env="x", actions="discrete", images=False).envs == 8
    assert preset("ppo", env="x", actions="bounded", images=False).envs == 16
    sac = preset("sac", env="x", actions="discrete", images=False)
    assert sac.options["discrete"] and sac.networks["hidden"] == [128, 128]
    assert preset("dqn", env="x", actions="discrete", images=True).training["warm_up"] == 20_000
    pendulum = preset("ppo", env="Pendulum-v1", actions="bounded", images=False)
    assert pendulum.options["discount"] == 0.9


@pytest.mark.parametrize(("algo", "env"), CASES)
def test_an_algorithm_learns_in_an_environment_as_it_comes(algo, env):
    experiment = Experiment.of(algo, env).but(
        vector="native",
        networks={"hidden": [8]},
        training={"steps": 64, "rollout": 8, "updates": 1, "warm_up": 0, "evaluation_every": 0},
    )
    trainer = experiment.trainer()
    outcome = trainer.train()
    assert outcome.reason == "budget"
    assert outcome.progress.updates >= 1
    trainer.envs.close()


def test_ranges_of_actions_are_measured():
    options = Experiment.of("td3", "Pendulum-v1").options  # torques from -2 to 2
    assert options["target_noise"] == [0.4, 1.0]
    assert options["action_range"] == [-2.0, 2.0]


def test_the_goal_is_what_gymnasium_or_we_know():
    assert Experiment.of("ppo", "CartPole-v1").goal == 475
    assert Experiment.of("ppo", "Pendulum-v1").goal == -200
    assert Experiment.of("ppo", "Blackjack-v1").goal is None


@pytest.mark.parametrize("algo", PRESETS)
@pytest.mark.parametrize("write", [str.lower, str.upper, lambda each: each.replace("_", "-")])
def test_names_are_read_however_they_are_written(algo, write):
    assert names.algorithm(write(algo)) == algo
    assert names.algorithm(PRESETS[algo].frame) == algo


# -- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algo", "env"), CASES[:4])
def test_an_experiment_goes_through_json(algo, env):
    made = Experiment.of(algo, env).but(envs=3, training={"seed": 7})
    data = json.loads(json.dumps(made.to_json()))
    assert Experiment.from_json(data) == made
    assert Experiment.from_json({"algo": algo, "env": env}) == Experiment.of(algo, env)


def test_what_is_left_out_is_as_in_the_preset():
    made = Experiment.from_json({"algo": "dqn", "env": "CartPole-v1", "options": {"discount": 0.5}})
    assert made.options == {**Experiment.of("dqn", "CartPole-v1").options, "discount": 0.5}


DQN = {"algo": "dqn", "env": "CartPole-v1"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "config: algo must be text, got None"),
        ({**DQN, "algo": 3}, "config: algo must be text, got 3"),
        ({**DQN, "algo": "dqm"}, "unknown algorithm 'dqm'. Did you mean 'dqn'?"),
        ({**DQN, "algo": "xyzzy"}, "unknown algorithm 'xyzzy'; known: a2c, ddpg"),
        ({**DQN, "env": "CartPol-v1"}, "unknown environment 'CartPol-v1'. Did you mean 'CartPole"),
        ({**DQN, "env": "Pendulum-v1"}, "dqn cannot act in Pendulum-v1, whose actions are Box"),
        ({**DQN, "env": "Pendulum-v1"}, "These can: a2c, ddpg"),
        ({**DQN, "algo": "ppo", "env": "FrozenLake-v1", "env_options": {"sizee": 3}}, "sizee"),
        ({**DQN, "schema_version": 2}, "schema_version must be a whole number up to 1, got 2"),
        ({**DQN, "schema_version": "1"}, "schema_version must be a whole number up to 1, got '1'"),
        ({**DQN, "traning": {}}, "config: unknown key 'traning'. Did you mean 'training'?"),
        ({**DQN, "training": {"step": 1}}, "training: unknown key 'step'. Did you mean 'steps'?"),
        ({**DQN, "training": {"steps": "9"}}, "steps must be a whole number, at least 1, got '9'"),
        ({**DQN, "training": 3}, "config: training must be an object, got int"),
        ({**DQN, "options": {"discont": 1}}, "unknown key 'discont'. Did you mean 'discount'?"),
        ({**DQN, "options": {"discount": 2}}, "DQN: discount must be in [0, 1], got 2"),
        ({**DQN, "options": {"batch_size": "a"}}, "dqn in CartPole-v1: "),
        ({**DQN, "options": {"optimizer": "Adan"}}, "unknown optimizer 'Adan'. Did you mean 'Ada"),
        ({**DQN, "options": {"optimizer": "os.system"}}, "unknown optimizer 'os.system'"),
        ({**DQN, "options": {"criterion": "eval"}}, "unknown criterion 'eval'"),
        ({**DQN, "networks": {"hiden": []}}, "networks: unknown key 'hiden'. Did you mean 'hid"),
        ({**DQN, "networks": {"recurrent": "rnn"}}, 'recurrent must be None, "gru" or "lstm"'),
        ({**DQN, "replay": {"capacity": 0}}, "Replay: capacity must be at least 1, got 0"),
        ({**DQN, "algo": "ppo", "replay": {"capacity": 1}}, "replay: unknown key 'capacity'"),
        ({**DQN, "envs": 0}, "config: envs must be a whole number, at least 1, got 0"),
        ({**DQN, "envs": True}, "config: envs must be a whole number, at least 1, got True"),
        ({**DQN, "vector": "ray"}, "config: vector must be one of pool, sync, native, got 'ray'"),
        ({**DQN, "vector": "native", "env": "FrozenLake-v1"}, "cannot be made: NativeEnv: env_id"),
        ({**DQN, "device": 3}, "config: device must be text, got 3"),
        ({**DQN, "device": "tpuu"}, "--device must be one of torch's, such as cpu, got tpuu"),
        ({**DQN, "env": "os:CartPole-v1"}, "which would import a module"),
        ({**DQN, "env_options": {"file": "../../x"}}, "file must not lead out of this folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(data, message):
    with pytest.raises(CommandError) as refused:
        Experiment.from_json(data).trainer(evaluate=False)
    assert message in str(refused.value)


def test_a_package_that_an_environment_needs_is_named(monkeypatch):
    def make(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled("do pip install 'gymnasium[box2d]'")

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(CommandError, match=r"pip install 'gymnasium\[box2d\]'"):
        Experiment.of("ppo", "LunarLander-v3")


def test_networks_and_memory_are_on_the_device(device):
    experiment = Experiment.of("dqn", "CartPole-v1").but(device=str(device), vector="sync")
    trainer = experiment.trainer(evaluate=False)
    assert trainer.algorithm.device == torch.device(device)
    assert trainer.algorithm.replay_buffer.device == torch.device(device)


def test_a_recurrent_network_learns_from_windows():
    experiment = Experiment.of("dqn", "CartPole-v1").but(
        vector="native",
        networks={"recurrent": "gru", "hidden": [8], "layer_norm": False},
        replay={"window": 8, "burn_in": 2},
        training={"steps": 256, "rollout": 16, "updates": 1, "warm_up": 0, "reward_steps": 1,
                  "evaluation_every": 0},
    )  # fmt: skip
    trainer = experiment.trainer()
    assert trainer.algorithm.burn_in == 2
    assert trainer.train().progress.updates >= 1


def test_a_new_run_gets_a_folder_of_its_own(tmp_path):
    experiment = Experiment.of("ppo", "CartPole-v1")
    first = default_folder(experiment, tmp_path)
    first.mkdir()
    assert (first.name, default_folder(experiment, tmp_path).name) == (
        "ppo_CartPole-v1", "ppo_CartPole-v1_2",
    )  # fmt: skip

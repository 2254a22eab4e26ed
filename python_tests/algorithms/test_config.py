"""Configs: what they are filled with, and what is made of them."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from experience import DISCRETE, episode
from machin_fast import algorithms
from machin_fast.algorithms import A2C, DQN, RAINBOW, DQNPer
from machin_fast.utils.conf import Config
from networks import DistributionNet, QNet


class GlobalNet(QNet):
    """Found by its name, as it is global here."""


class GlobalOptimizer(torch.optim.SGD):
    pass


def config(frame: Any = DQN, **given: Any) -> Any:
    return frame.generate_config({"frame_config": {"models": ["GlobalNet"] * 2, **given}})


@pytest.mark.parametrize("name", [x for x in algorithms.__all__ if x != "TorchFramework"])
def test_a_config_is_whole_and_json(name: str) -> None:
    frame = getattr(algorithms, name)
    made = frame.generate_config()
    assert made["frame"] == name
    inside = made["frame_config"]
    networks = len(inside["models"])
    assert networks == len(inside["model_args"]) == len(inside["model_kwargs"]) > 0
    assert inside["optimizer"] == "Adam" and inside["gradient_max"] == math.inf
    text = json.dumps(made)
    assert json.dumps(frame.generate_config(json.loads(text))) == text


def test_what_the_user_says_stays_as_it_is() -> None:
    given = {"other": {"x": [1]}, "frame_config": {"batch_size": 7, "models": ["A", "B"]}}
    kept = copy.deepcopy(given)
    made = DQN.generate_config(given)
    assert given == kept
    assert made["other"] == {"x": [1]} and made["other"]["x"] is not given["other"]["x"]
    assert made["frame_config"]["batch_size"] == 7
    assert made["frame_config"]["models"] == ["A", "B"]
    assert made["frame_config"]["update_rate"] == 0.005
    assert RAINBOW.generate_config({})["frame_config"]["value_min"] == -1.0


def test_a_config_object_stays_one() -> None:
    given = Config(frame_config={"models": [QNet, QNet]}, other=1)
    made = DQN.generate_config(given)
    assert isinstance(made, Config) and made is not given
    assert made.frame == "DQN" and made.other == 1 and given.frame is None
    assert isinstance(DQN.init_from_config(made), DQN)


@pytest.mark.parametrize("model", ["GlobalNet", GlobalNet, "networks.QNet"])
def test_networks_are_named_or_given(model: Any) -> None:
    given = config(
        models=[model] * 2, model_args=[[4], [4]], model_kwargs=[{"actions": 5}] * 2, batch_size=9
    )
    kept = copy.deepcopy(given)
    dqn = DQN.init_from_config(given, model_device="cpu")
    assert given == kept
    assert isinstance(dqn.qnet, QNet) and isinstance(dqn.qnet_target, QNet)
    assert dqn.qnet is not dqn.qnet_target and dqn.batch_size == 9
    assert dqn.qnet.net[2].out_features == 5


def test_names_of_a_caller_are_seen_from_within_calls() -> None:
    def deep(levels: int) -> Any:
        return DQN.init_from_config(config()) if not levels else deep(levels - 1)

    assert isinstance(deep(5).qnet, GlobalNet)


def test_all_parts_are_made() -> None:
    dqn = DQN.init_from_config(
        config(
            optimizer="GlobalOptimizer",
            learning_rate=0.25,
            criterion="SmoothL1Loss",
            criterion_kwargs={"beta": 0.5},
            lr_scheduler="StepLR",
            lr_scheduler_args=[[2]],
            lr_scheduler_kwargs=[{"gamma": 0.5}],
            mode="fixed_target",
            update_rate=None,
            update_steps=3,
            discount=0.5,
            replay_size=11,
            lazy=True,
        )
    )
    assert isinstance(dqn, DQN)
    assert type(dqn.qnet_optim) is GlobalOptimizer
    assert dqn.qnet_optim.param_groups[0]["lr"] == 0.25
    assert isinstance(dqn.criterion, nn.SmoothL1Loss) and dqn.criterion.beta == 0.5
    assert dqn.qnet_lr_sch.step_size == 2 and dqn.qnet_lr_sch.gamma == 0.5
    assert (dqn.mode, dqn.update_steps, dqn.discount, dqn.lazy) == ("fixed_target", 3, 0.5, True)
    assert dqn.replay_buffer.buffer_size == 11  # type: ignore[union-attr]
    dqn.store_episode(episode(4, DISCRETE))
    dqn.update()


@pytest.mark.parametrize("frame", [DQN, DQNPer, RAINBOW])
def test_a_config_of_text_learns(frame: Any) -> None:
    names = ["networks.DistributionNet" if frame is RAINBOW else "networks.QNet"] * 2
    text = json.dumps(config(frame, models=names))
    algorithm = frame.init_from_config(json.loads(text))
    assert type(algorithm) is frame
    assert isinstance(algorithm.qnet, DistributionNet if frame is RAINBOW else QNet)
    algorithm.store_episode(episode(4, DISCRETE))
    assert math.isfinite(algorithm.update())


def test_rainbow_has_a_criterion_only_for_values() -> None:
    assert RAINBOW.generate_config()["frame_config"]["criterion"] is None
    made = config(RAINBOW, distributional=False, criterion="L1Loss")
    rainbow = RAINBOW.init_from_config(made)
    assert isinstance(rainbow.criterion, nn.L1Loss)
    assert isinstance(RAINBOW.init_from_config(config(RAINBOW)).criterion, nn.HuberLoss)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("models", ["GlobalNet", "NoSuchNet"]),
        ("optimizer", "NoSuchOptimizer"),
        ("optimizer", "GlobalNet"),
        ("criterion", "no.such.Loss"),
        ("lr_scheduler", "NoSuchScheduler"),
    ],
)
def test_names_that_name_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"init_from_config: {name} must be"):
        DQN.init_from_config(config(**{name: value}))


def test_entries_must_be_as_many_as_networks() -> None:
    with pytest.raises(
        ValueError, match=r"models, model_args and model_kwargs must have 2 entries.*got 1, 2 and 2"
    ):
        DQN.init_from_config(config(models=["GlobalNet"]))


def test_unknown_entries_warn() -> None:
    with pytest.warns(UserWarning, match="got bach_size"):
        DQN.init_from_config(config(bach_size=3))


def test_a_value_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"DQN: discount must be in \[0, 1\], got 2"):
        DQN.init_from_config(config(discount=2))


class Imitating(A2C):
    """A user's, which passes on what it does not know."""

    def __init__(self, *args: Any, extra: int = 3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.extra = extra


def test_a_subclass_that_passes_arguments_on_has_a_config():
    config = Imitating.generate_config({"frame_config": {"extra": 5}})
    taken = config["frame_config"]
    assert taken["models"] == ["Actor", "Critic"] and taken["batch_size"] == 100
    taken.update(models=["torch.nn.Linear"] * 2, model_args=[(4, 2), (4, 1)])
    made = Imitating.init_from_config(config)
    assert isinstance(made, Imitating) and made.extra == 5

"""What Machin's users import from ``algorithms.utils``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from machin_fast.algorithms import utils
from machin_fast.model import call
from networks import QNet, QNetNorm


def test_a_soft_update_moves_parameters_alone() -> None:
    target, source = QNetNorm(), QNetNorm()
    source.net[1].running_mean.fill_(7.0)
    wanted = [
        (0.75 * x + 0.25 * y).detach()
        for x, y in zip(target.parameters(), source.parameters(), strict=True)
    ]
    utils.soft_update(target, source, 0.25)
    assert_close([x.detach() for x in target.parameters()], wanted)
    assert target.net[1].running_mean.eq(0).all()


def test_a_hard_update_copies_buffers_as_well() -> None:
    target, source = QNetNorm(), QNetNorm()
    source.net[1].running_mean.fill_(7.0)
    source.net[1].num_batches_tracked.fill_(3)
    utils.hard_update(target, source)
    for name, x in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], x)
    with pytest.raises(ValueError, match="hard_update_: source must have shapes"):
        utils.hard_update(target, QNetNorm.__base__(actions=5))


def test_devices_are_told_once() -> None:
    assert utils.determine_device(QNet()) == [torch.device("cpu")]
    mixed = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1, device="meta")])
    assert utils.determine_device(mixed) == [torch.device("cpu"), torch.device("meta")]
    assert utils.determine_device(nn.ReLU()) == []


@pytest.mark.parametrize(
    "bad",
    [
        torch.ones(3) / 3,
        torch.ones(1, 2, 2) / 2,
        torch.tensor([[0.5, 0.4]]),
        torch.tensor([[1.5, -0.5]]),
        torch.tensor([[0.5, 0.5], [float("nan"), 0.5]]),
    ],
    ids=["flat", "deep", "sum", "negative", "nan"],
)
def test_probabilities_are_checked(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"actor must return probabilities \[batch, action_num\]"):
        utils.assert_output_is_probs(bad)


def test_probabilities_may_be_rounded() -> None:
    utils.assert_output_is_probs(torch.tensor([[0.3, 0.7], [1.0, 0.0]]))
    utils.assert_output_is_probs(torch.rand(50, 1000).softmax(1))


def test_the_fake_optimizer_does_nothing() -> None:
    network = QNet()
    optimizer = utils.FakeOptimizer(network.parameters(), lr=1.0)
    network(torch.ones(1, 4)).sum().backward()
    before = [x.detach().clone() for x in network.parameters()]
    optimizer.step()
    optimizer.zero_grad()
    assert_close([x.detach() for x in network.parameters()], before, atol=0, rtol=0)
    assert all(x.grad is not None for x in network.parameters())


def test_calls_are_those_of_the_model_package() -> None:
    assert utils.safe_call is call.safe_call and utils.safe_return is call.safe_return
    assert set(utils.__all__) <= set(dir(utils))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("torch.nn.Linear", nn.Linear),
        ("networks.QNet", QNet),
        ("torch.nn.Nothing", None),
        ("no_such_package.Thing", None),
        ("Linear", None),
        ("", None),
        (".", None),
        ("..Linear", None),
        ("torch..Linear", None),
    ],
)
def test_a_path_is_imported_or_not(name: str, found: Any) -> None:
    assert utils.safe_import(name) is found


CALLER = "of this module"


def test_globals_of_callers_are_found() -> None:
    found = utils.get_globals_from_stack()
    assert found["CALLER"] == "of this module"
    assert "pytest" in found
    inner: dict[str, Any] = {"look": utils.get_globals_from_stack, "CALLER": "of the innermost"}
    exec("seen = look()", inner)
    assert inner["seen"]["CALLER"] == "of the innermost"


class MyNet(nn.Module):
    pass


class MySGD(torch.optim.SGD):
    pass


def my_loss() -> nn.Module:
    return nn.L1Loss()


def test_classes_are_found_by_name_or_taken() -> None:
    models = utils.assert_and_get_valid_models([MyNet, "MyNet", "networks.QNet", "torch.nn.Linear"])
    assert models == [MyNet, MyNet, QNet, nn.Linear]
    for given, wanted in (
        ("Adam", torch.optim.Adam),
        (MySGD, MySGD),
        ("MySGD", MySGD),
        ("torch.optim.RMSprop", torch.optim.RMSprop),
    ):
        assert utils.assert_and_get_valid_optimizer(given) is wanted
    for given, wanted in (
        ("MSELoss", nn.MSELoss),
        ("my_loss", my_loss),
        (my_loss, my_loss),
        ("torch.nn.HuberLoss", nn.HuberLoss),
    ):
        assert utils.assert_and_get_valid_criterion(given) is wanted
    steps = torch.optim.lr_scheduler.StepLR
    for given in ("StepLR", steps, "torch.optim.lr_scheduler.StepLR"):
        assert utils.assert_and_get_valid_lr_scheduler(given) is steps


@pytest.mark.parametrize(
    ("resolve", "name", "bad"),
    [
        (lambda x: utils.assert_and_get_valid_models([x]), "models", "NoSuchNet"),
        (lambda x: utils.assert_and_get_valid_models([x]), "models", "MySGD"),
        (lambda x: utils.assert_and_get_valid_models([x]), "models", 3),
        (utils.assert_and_get_valid_optimizer, "optimizer", "MyNet"),
        (utils.assert_and_get_valid_optimizer, "optimizer", "torch.optim.Nothing"),
        (utils.assert_and_get_valid_criterion, "criterion", "CALLER"),
        (utils.assert_and_get_valid_criterion, "criterion", None),
        (utils.assert_and_get_valid_lr_scheduler, "lr_scheduler", "Adam"),
    ],
)
def test_names_that_name_nothing_are_refused(resolve: Any, name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=rf"init_from_config: {name} must be .*got {bad!r}"):
        resolve(bad)

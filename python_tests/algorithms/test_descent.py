"""Steps equal torch's own, bit for bit, whichever way they are taken."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from machin_fast.algorithms import _descent

Make = Callable[[list[Any]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "adam": lambda p: torch.optim.Adam(p, fused=True),
    "adam, all options": lambda p: torch.optim.Adam(
        p, lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1, amsgrad=True, maximize=True,
        fused=True,
    ),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "adam, not fused": lambda p: torch.optim.Adam(p),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p),
    "adam, a rate that is a tensor": lambda p: torch.optim.Adam(
        p, lr=torch.tensor(0.01), fused=True
    ),
}  # fmt: skip


def twins(make: Make, dtype: torch.dtype = torch.float32) -> Any:
    """Two equal networks with their optimizers; the last layer is a group of its own."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    pair = []
    for each in (network, copy.deepcopy(network)):
        groups = [
            {"params": list(each[0].parameters())},
            {"params": list(each[2].parameters()), "lr": 0.5},
        ]
        pair.append((each, make(groups)))
    return pair


def give_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for x in network.parameters():
        x.grad = torch.randn(x.shape, generator=generator, dtype=x.dtype)


def parameters(network: nn.Module) -> list[Tensor]:
    return [x.detach().clone() for x in network.parameters()]


def assert_equal(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_steps_are_those_of_torch(make: Make, dtype: torch.dtype) -> None:
    (network, optimizer), (other, others) = twins(make, dtype)
    for seed in range(5):
        for each in (network, other):
            give_gradients(each, seed)
        if seed == 3:  # some have none
            network[2].bias.grad = other[2].bias.grad = None
        _descent.step(optimizer)
        others.step()
        assert_equal(parameters(network), parameters(other))
    assert_equal(optimizer.state_dict()["state"], others.state_dict()["state"])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("first", [True, False], ids=["the first step", "a later step"])
def test_a_step_that_is_not_finite_is_left_out(make: Make, first: bool) -> None:
    (network, optimizer), (other, others) = twins(make)
    if not first:
        for each, its in ((network, optimizer), (other, others)):
            give_gradients(each, 0)
            its.step()
    before = parameters(network)
    give_gradients(network, 1)
    network[0].weight.grad[0, 0] = math.nan
    _descent.step(optimizer, torch.tensor(False))
    assert_equal(parameters(network), before)
    for each in (network, other):
        give_gradients(each, 2)
    _descent.step(optimizer, torch.tensor(True))
    others.step()
    assert_equal(parameters(network), parameters(other))


def test_whoever_watches_an_optimizer_is_told() -> None:
    (network, optimizer), _ = twins(OPTIMIZERS["adam"])
    seen = []
    for watch in (False, True):
        if watch:
            optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
            optimizer.register_step_post_hook(lambda *_: seen.append("after"))
        for seed in range(2):
            give_gradients(network, seed)
            _descent.step(optimizer)
    assert seen == ["before", "after"] * 2
    told: list[str] = []
    optimizer.step = lambda: told.append("own")  # type: ignore[method-assign, assignment]
    _descent.step(optimizer)
    assert told == ["own"]


def test_schedulers_see_the_steps_and_set_the_rate() -> None:
    (network, optimizer), (other, others) = twins(OPTIMIZERS["adam"])
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda t: 0.5**t) for each in (optimizer, others)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(4):
            for each in (network, other):
                give_gradients(each, seed)
            _descent.step(optimizer)
            others.step()
            for scheduler in schedulers:
                scheduler.step()
    assert_equal(parameters(network), parameters(other))


def test_a_loaded_state_is_the_one_that_is_used() -> None:
    (network, optimizer), (other, others) = twins(OPTIMIZERS["adam"])
    for seed in range(3):
        give_gradients(network, seed)
        _descent.step(optimizer)
    other.load_state_dict(network.state_dict())
    others.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((network, optimizer), (other, others)):
        give_gradients(each, 9)
        _descent.step(its)
    assert_equal(parameters(network), parameters(other))


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e3])
def test_gradients_are_clipped_as_by_torch(limit: float) -> None:
    (network, _), (other, _) = twins(OPTIMIZERS["adam"], torch.float64)
    for each in (network, other):
        give_gradients(each, 0)
    network[2].bias.grad = other[2].bias.grad = None
    ours = _descent.clip(list(network.parameters()), limit)
    theirs = nn.utils.clip_grad_norm_(other.parameters(), limit)
    torch.testing.assert_close(ours, theirs)
    for x, y in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad)


def test_clipping_nothing_is_nothing() -> None:
    assert _descent.clip([nn.Parameter(torch.ones(2))], 1.0) == 0

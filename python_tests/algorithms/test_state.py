"""States: whoever goes on from one does so bit for bit."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experience import DISCRETE, episode, seeded
from machin_fast.algorithms import DQN, RAINBOW, DQNPer
from machin_fast.algorithms._state import rng_state, set_rng_state
from machin_fast.buffers import Buffer, PrioritizedBuffer
from machin_fast.data import Replay
from machin_fast.utils.state_file import load_state, save_state
from networks import DistributionNet, QNetDropout, QNetNorm


def made(frame: Any = DQN, net: Any = QNetDropout, memory: Any = None, **options: Any) -> Any:
    """Draws by all generators: dropout, exploration, batches. It has a scheduler."""
    nets = seeded(net).float(), seeded(net, seed=1).float()
    rest = (-1.0, 1.0) if frame is RAINBOW else (nn.MSELoss(),)
    return frame(
        *nets,
        torch.optim.Adam,
        *rest,
        lr_scheduler=torch.optim.lr_scheduler.MultiStepLR,
        lr_scheduler_args=(([2, 4],),),
        learning_rate=0.01,
        batch_size=4,
        epsilon_decay=0.9,
        replay_buffer=memory,
        **options,
    )


def go_on(algorithm: Any, rounds: int, seed: int) -> list[Any]:
    """Acts, stores and learns; all that came of it."""
    found: list[Any] = []
    for i in range(rounds):
        steps = episode(3, DISCRETE, seed=seed + i)
        for step in steps:
            action = algorithm.act_discrete_with_noise(step["state"])
            step["action"]["action"] = action
            found.append(int(action))
        algorithm.store_episode(steps)
        found.append(algorithm.update())
        algorithm.update_lr_scheduler()
    return found


def networks(algorithm: Any) -> list[Tensor]:
    return [x.clone() for each in algorithm.top_models for x in each.state_dict().values()]


def assert_goes_on(algorithm: Any, fresh: Any, through: Any = lambda state: state) -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    go_on(algorithm, 3, 0)
    state = algorithm.state_dict()
    kept = copy.deepcopy(state)
    wanted = go_on(algorithm, 3, 100), networks(algorithm), random.random(), np.random.rand()  # noqa: NPY002
    state = through(state)
    for other in (fresh, algorithm):  # another one, and itself, in a process that went on
        for _ in range(2):
            other.load_state_dict(state)
            got = go_on(other, 3, 100), networks(other), random.random(), np.random.rand()  # noqa: NPY002
            assert got[0] == wanted[0] and got[2:] == wanted[2:]
            assert all(torch.equal(x, y) for x, y in zip(got[1], wanted[1], strict=True))
    assert_same(state, kept)  # nobody changed what was kept


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for x, y in zip(one, other, strict=True):
            assert_same(x, y)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (DQN, {}),
        (DQN, {"mode": "vanilla"}),
        (DQN, {"mode": "fixed_target", "update_rate": None, "update_steps": 2}),
        (DQN, {"net": QNetNorm, "lazy": True}),
        (DQNPer, {}),
        (RAINBOW, {"net": DistributionNet}),
    ],
)
def test_an_algorithm_goes_on(frame: Any, options: dict[str, Any]) -> None:
    assert_goes_on(made(frame, **options), made(frame, **options))


@pytest.mark.parametrize(
    "memory",
    [
        lambda: Buffer(10),
        lambda: Buffer(20, n_step=2),
        lambda: PrioritizedBuffer(10),
        lambda: Replay(10),
        lambda: Replay(10, priority="step"),
        lambda: Replay(12, window=2, priority="window"),
    ],
    ids=["buffer", "n step", "prioritized", "replay", "prioritized replay", "windows"],
)
def test_a_memory_goes_on(memory: Any, tmp_path: Path) -> None:
    def through(state: Any) -> Any:
        save_state(tmp_path / "state", state, kind="algorithm")
        return load_state(tmp_path / "state", kind="algorithm")

    assert_goes_on(made(memory=memory()), made(memory=memory()), through)


def test_a_state_may_be_without_the_memory() -> None:
    one, other = made(), made()
    go_on(one, 2, 0)
    state = one.state_dict(memory=False)
    assert state["memory"] is None
    other.store_episode(episode(4, DISCRETE))
    other.load_state_dict(state)
    assert other.replay_buffer.size() == 4
    assert all(torch.equal(x, y) for x, y in zip(networks(one), networks(other), strict=True))
    assert other.epsilon == one.epsilon < 1
    assert other.qnet_optim.param_groups[0]["lr"] == one.qnet_optim.param_groups[0]["lr"] < 0.01


def test_a_state_is_a_copy() -> None:
    dqn = made()
    go_on(dqn, 2, 0)
    state = dqn.state_dict()
    kept = copy.deepcopy(state)
    go_on(dqn, 3, 50)
    assert_same(state, kept)


def test_states_of_others_are_refused() -> None:
    dqn = made()
    with pytest.raises(ValueError, match=r"DQN.load_state_dict: state must be of DQN, got DQNPer"):
        dqn.load_state_dict(made(DQNPer).state_dict())
    before = networks(dqn)
    with pytest.raises(RuntimeError, match="Missing key"):
        made(net=QNetNorm).load_state_dict(dqn.state_dict())
    with pytest.raises(ValueError, match="buffer_size must be"):
        made(memory=Buffer(5)).load_state_dict(dqn.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(before, networks(dqn), strict=True))


def test_the_generators_go_on() -> None:
    def draws() -> tuple[Any, ...]:
        normal = np.random.randn(3).tolist()  # noqa: NPY002 (keeps one number for later)
        gauss = random.gauss(0, 1)  # so does this one
        return torch.rand(3).tolist(), torch.randn(3).tolist(), normal, gauss, random.random()

    draws()
    state = rng_state()
    wanted = [draws() for _ in range(2)]
    for _ in range(2):
        set_rng_state(state)
        assert [draws() for _ in range(2)] == wanted

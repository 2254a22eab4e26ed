"""What algorithms with a memory store in it and draw from it, on DQN."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from experience import DISCRETE, episode, parameters, seeded, trajectory
from machin_fast.algorithms import DQN, RAINBOW
from machin_fast.buffers import Buffer, PrioritizedBuffer
from machin_fast.data import Batch, Replay, Trajectory, plans, transforms
from machin_fast.transition import Transition
from networks import DistributionNet, QNet

MEMORIES: dict[str, Any] = {
    "buffer": lambda: Buffer(100),
    "prioritized buffer": lambda: PrioritizedBuffer(100),
    "replay": lambda: Replay(100, seed=0),
    "prioritized replay": lambda: Replay(100, priority="step", seed=0),
    "windows": lambda: Replay(100, window=3, seed=0),
    "prioritized windows": lambda: Replay(100, window=3, priority="window", seed=0),
}


def made(memory: Any = None, **options: Any) -> DQN:
    nets = seeded(QNet).float(), seeded(QNet, seed=1).float()
    settings = {"learning_rate": 0.1, "batch_size": 6, "replay_buffer": memory, **options}
    return DQN(*nets, torch.optim.SGD, settings.pop("criterion", nn.MSELoss()), **settings)


@pytest.fixture(params=MEMORIES)
def memory(request: pytest.FixtureRequest) -> Any:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (what Machin's buffers draw by)
    return MEMORIES[request.param]()


def drawn(dqn: DQN) -> Batch:
    """A batch as ``update`` gets it, flat."""
    batch = dqn._draw()
    if batch.mask is None:
        return batch
    return Batch({name: batch[name][batch.mask] for name in batch.names()}, batch.index, None)


def nested(steps: Trajectory) -> Trajectory:
    """With states by name, as Machin has them."""
    columns = {"state": {"state": steps["state"]}, **steps.without_columns("state").columns}
    columns["action"] = {"action": columns["action"]}
    return Trajectory(columns, steps.bounds, final={"state": {"state": steps.final["state"]}})


# -- storing ----------------------------------------------------------------------------------


def test_what_was_stored_is_drawn(memory: Any) -> None:
    dqn = made(memory)
    episodes = [
        episode(4, DISCRETE, seed=i, end=end) for i, end in enumerate(("terminated", "cut"))
    ]
    for steps in episodes:
        dqn.store_episode(copy.deepcopy(steps))
    known = {float(step["state"]["state"][0, 0]): step for steps in episodes for step in steps}
    batch = drawn(dqn)
    for i in range(len(batch.reward)):
        step = known[float(batch["state/state"][i, 0])]
        assert torch.equal(batch["state/state"][i], step["state"]["state"][0])
        assert torch.equal(batch["next_state/state"][i], step["next_state"]["state"][0])
        assert torch.equal(batch["action/action"][i], step["action"]["action"][0])
        assert_close(float(batch.reward[i]), step["reward"], rtol=1e-6, atol=0)
        assert bool(batch.terminated[i]) == step["terminal"]


def test_it_learns_from_any_memory(memory: Any) -> None:
    dqn = made(memory)
    for seed in range(4):
        dqn.store_episode(episode(1 + 2 * seed, DISCRETE, seed=seed))
    before = parameters(*dqn.top_models)
    losses = [dqn.update() for _ in range(3)]
    assert all(np.isfinite(loss) for loss in losses)
    for x, y in zip(before, parameters(*dqn.top_models), strict=True):
        assert not torch.equal(x, y)


def test_nothing_to_draw_is_an_error(memory: Any) -> None:
    dqn = made(memory)
    before = parameters(*dqn.top_models)
    with pytest.raises(
        ValueError, match=r"DQN.update: replay_buffer must hold a transition, got none. Call store"
    ):
        dqn.update()
    assert_close(parameters(*dqn.top_models), before, atol=0, rtol=0)


def test_one_step_is_enough(memory: Any) -> None:
    dqn = made(memory, batch_size=1)
    dqn.store_transition(episode(1, DISCRETE)[0])
    assert np.isfinite(dqn.update())


def test_what_was_only_cut_off_goes_on(memory: Any) -> None:
    """A time limit is no end: Machin's examples store both as terminal."""
    for end, terminated in (("terminated", True), ("truncated", False), ("cut", False)):
        dqn = made(copy.deepcopy(memory))
        steps = episode(1, DISCRETE, end=end)
        kept = copy.deepcopy(steps)
        dqn.store_episode(steps)
        assert str(steps) == str(kept)  # the caller's own are left alone
        assert drawn(dqn).terminated.flatten().unique().tolist() == [terminated]


def test_transitions_that_were_cut_off_are_not_changed() -> None:
    for flag in (True, torch.tensor([True])):
        step = Transition(**{**episode(1, DISCRETE)[0], "truncated": flag})
        dqn = made()
        dqn.store_episode([step])
        assert step.terminal is True
        assert not drawn(dqn).terminated.any()


def test_trajectories_are_stored_as_their_episodes(memory: Any) -> None:
    steps = nested(trajectory([4, 1, 3], DISCRETE, ends="tlc", dtype=torch.float32))
    one, other = made(copy.deepcopy(memory)), made(copy.deepcopy(memory))
    one.store(steps)
    for i in range(3):
        segment = steps.select([i])
        after = segment.next("state/state")
        other.store_episode(
            [
                {
                    "state": {"state": segment["state/state"][j : j + 1]},
                    "action": {"action": segment["action/action"][j : j + 1]},
                    "next_state": {"state": after[j : j + 1]},
                    "reward": float(segment["reward"][j]),
                    "terminal": bool(segment["terminated"][j]),
                    "truncated": bool(segment["truncated"][j]),
                }
                for j in range(len(segment))
            ]
        )
    state = random.getstate(), np.random.get_state()  # noqa: NPY002
    losses = []
    for each in (one, other):
        random.setstate(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        losses.append([each.update() for _ in range(3)])
    assert_close(*losses)


NUMBERS: dict[str, Any] = {
    "int": (int, bool),
    "numpy": (np.float64, np.bool_),
    "[1]": (lambda x: torch.tensor([float(x)]), lambda x: torch.tensor([x])),
    "[1, 1]": (lambda x: torch.tensor([[float(x)]]), lambda x: torch.tensor([[x]])),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("frame", [DQN, RAINBOW])
@pytest.mark.parametrize("name", ["buffer", "replay"])
def test_rewards_and_ends_are_numbers_of_any_kind(frame: Any, name: str, kind: str) -> None:
    reward, flag = NUMBERS[kind]
    losses = []
    for one, other in ((float, bool), (reward, flag)):
        random.seed(0)
        net = QNet if frame is DQN else DistributionNet
        nets = seeded(net).float(), seeded(net, seed=1).float()
        rest = (nn.MSELoss(),) if frame is DQN else (-3.0, 3.0)
        memory = MEMORIES[name]()
        algorithm = frame(*nets, torch.optim.SGD, *rest, replay_buffer=memory, batch_size=8)
        steps = episode(8, DISCRETE, end="truncated")
        for i, step in enumerate(steps):
            step.update(
                reward=one(i % 3), terminal=other(step["terminal"]), truncated=other(i == 7)
            )
        algorithm.store_episode(steps)
        losses.append(algorithm.update())
    assert_close(*losses)


@pytest.mark.parametrize("frame", [DQN, RAINBOW])
@pytest.mark.parametrize("missing", ["state", "action", "next_state", "reward", "terminal"])
def test_incomplete_steps_are_refused(frame: Any, missing: str, memory: Any) -> None:
    rest = (nn.MSELoss(),) if frame is DQN else (-1.0, 1.0)
    algorithm = frame(QNet(), QNet(), torch.optim.SGD, *rest, replay_buffer=memory)
    steps = episode(3, DISCRETE)
    for step in steps:
        del step[missing]
    with pytest.raises(ValueError, match=rf"missing.*{missing}"):
        algorithm.store_episode(steps)
    assert not (len(memory) if isinstance(memory, Replay) else memory.size())


@pytest.mark.parametrize("missing", ["state", "action", "reward"])
def test_an_incomplete_trajectory_is_refused(missing: str) -> None:
    steps = trajectory([3], DISCRETE).without_columns(missing)
    with pytest.raises(ValueError, match=missing):
        made().store(steps)


@pytest.mark.parametrize("n", [1, 3])
def test_buffers_of_several_steps_discount_by_their_number(n: int) -> None:
    given = episode(5, DISCRETE)
    dqn = made(Buffer(10, n_step=n, discount=0.9), discount=0.9, batch_size=5)
    dqn.store_episode(given)
    target = made(discount=0.9)
    errors = []
    for i, step in enumerate(given):
        last = min(i + n, 5) - 1
        reward = sum(0.9 ** (j - i) * given[j]["reward"] for j in range(i, last + 1))
        after = given[last]["next_state"]["state"]
        best = int(target.qnet(after).argmax())
        value = (
            0
            if last == 4
            else 0.9 ** (last + 1 - i) * float(target.qnet_target(after)[0, best].detach())
        )
        q = float(target.qnet(step["state"]["state"]).detach()[0, int(step["action"]["action"])])
        errors.append(q - reward - value)
    assert_close(dqn.update(), float(np.mean(np.square(errors))), rtol=1e-4, atol=1e-5)


def test_steps_may_be_joined_by_a_transform() -> None:
    steps = nested(trajectory([6], DISCRETE, dtype=torch.float32))
    joined = transforms.nstep(3, 0.99)(steps)
    dqn, other = made(Replay(10, seed=0)), made()
    dqn.store(joined)
    (batch,) = plans.full(dqn.replay_buffer)  # type: ignore[arg-type]
    (wanted,) = plans.full(joined)
    assert_close(dqn.learn(batch), other.learn(wanted))


# -- drawing ----------------------------------------------------------------------------------


def test_draws_are_distinct_and_as_many_as_there_are() -> None:
    dqn = made()
    dqn.store_episode(episode(4, DISCRETE))
    batch = drawn(dqn)
    assert len(batch) == 4 and len(set(batch["state/state"][:, 0].tolist())) == 4
    dqn.batch_size = 3
    assert len(drawn(dqn)) == 3


def test_the_seed_of_python_decides_draws_of_buffers() -> None:
    results = []
    for _ in range(2):
        random.seed(7)
        dqn = made()
        dqn.store_episode(episode(20, DISCRETE))
        results.append([dqn.update() for _ in range(5)])
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", ["buffer", "replay"])
def test_what_else_was_stored_reaches_the_reward_function(kind: str) -> None:
    seen: list[Any] = []

    def reward_function(
        reward: Tensor, discount: Any, next_value: Tensor, terminal: Tensor, others: Any
    ) -> Tensor:
        seen.append(others)
        assert reward.shape == next_value.shape == terminal.shape == (3, 1)
        assert terminal.dtype == torch.bool and discount == 0.99
        return reward

    dqn = made(MEMORIES[kind](), batch_size=3)
    dqn.reward_function = reward_function  # type: ignore[method-assign]
    dqn.store_episode(episode(3, DISCRETE, tag=5, note=2.5))
    dqn.update()
    assert set(seen[0]) == {"tag", "note"}
    assert [float(x) for x in seen[0]["note"]] == [2.5] * 3


def test_a_uniform_replay_needs_no_criterion_of_rows() -> None:
    for kind in ("replay", "buffer"):
        dqn = made(MEMORIES[kind](), criterion=lambda value, target: (value - target).abs().max())
        dqn.store_episode(episode(5, DISCRETE))
        assert np.isfinite(dqn.update())


def test_plans_of_a_prioritized_replay_write_priorities_back() -> None:
    memory = Replay(50, priority="step", seed=0)
    dqn = made(memory)
    dqn.store(nested(trajectory([8, 4], DISCRETE, dtype=torch.float32)))
    before = memory.masses().clone()
    figures = dqn.over(plans.prioritized(memory, batch_size=4, batches=3))
    assert set(figures) == {"value_loss", "value"}
    assert all(type(x) is float for x in figures.values())
    assert not torch.equal(memory.masses(), before)


# -- arguments --------------------------------------------------------------------------------


def test_targets_follow_in_one_way() -> None:
    with pytest.raises(ValueError, match=r"DQN: update_rate and update_steps must not both be"):
        made(update_rate=0.1, update_steps=5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("update_rate", 0.0),
        ("update_rate", 1.5),
        ("update_steps", 0),
        ("batch_size", 0),
        ("discount", -0.1),
        ("discount", 1.1),
        ("gradient_max", 0.0),
        ("gradient_max", float("nan")),
        ("epsilon_decay", 0.0),
        ("epsilon_decay", 1.1),
    ],
)
def test_numbers_out_of_their_range_are_refused(name: str, value: float) -> None:
    more = {"update_rate": None} if name == "update_steps" else {}
    with pytest.raises(ValueError, match=rf"DQN: {name} must be .*got"):
        made(**{**more, name: value})


def test_the_memory_is_made_as_asked_for() -> None:
    dqn = made(replay_size=7, replay_device="cpu")
    assert type(dqn.replay_buffer) is Buffer and dqn.replay_buffer.buffer_size == 7
    empty = Replay(3)  # which counts as false
    assert made(empty).replay_buffer is empty

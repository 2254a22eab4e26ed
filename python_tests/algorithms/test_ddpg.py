"""DDPG, and what TD3 and others share with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from experience import PROBABILITY, episode, parameters, transitions
from machin_fast.algorithms import DDPG, HDDPG, TD3, DDPGPer
from machin_fast.data import Replay
from networks import Actor, ActorExtra, ActorProbability, Critic
from off_policy import OffPolicyTests, check, make, reference


class TestContract(OffPolicyTests):
    frame = DDPG


@pytest.mark.parametrize("n", [1, 2, 17])
def test_an_update_is_that_of_the_equations(n: int) -> None:
    ddpg = make()
    batch = transitions(n)
    want = reference(ddpg, batch)
    check(ddpg, want, ddpg.learn(batch))


def test_online_networks_begin_as_their_targets() -> None:
    made = DDPG(Actor(), Actor(), Critic(), Critic(), torch.optim.SGD, nn.MSELoss())
    assert_close(parameters(made.actor), parameters(made.actor_target), atol=0, rtol=0)
    assert_close(parameters(made.critic), parameters(made.critic_target), atol=0, rtol=0)


def test_hard_updates_come_every_so_many_steps() -> None:
    ddpg = make(update_rate=None, update_steps=2)
    before = parameters(ddpg.actor_target)
    ddpg.learn(transitions(5))
    assert_close(parameters(ddpg.actor_target), before, atol=0, rtol=0)
    ddpg.learn(transitions(5))
    assert_close(parameters(ddpg.actor_target), parameters(ddpg.actor), atol=0, rtol=0)
    assert_close(parameters(ddpg.critic_target), parameters(ddpg.critic), atol=0, rtol=0)
    with pytest.raises(ValueError, match="update_rate and update_steps must not both be given"):
        make(update_rate=0.1, update_steps=2)


@pytest.mark.parametrize("as_attribute", [False, True])
@pytest.mark.parametrize("frame", [DDPG, TD3, HDDPG, DDPGPer])
def test_the_transform_sees_the_raw_action_the_state_and_the_others(
    frame: Any, as_attribute: bool
) -> None:
    seen: list[Any] = []

    def transform(raw: Any, state: Any, others: Any) -> Any:
        seen.append((raw, state, others))
        return {"action": raw / 2}

    if as_attribute:
        ddpg = make(frame)
        ddpg.action_transform_function = transform
    else:
        ddpg = make(type("Own", (frame,), {"action_transform_function": staticmethod(transform)}))
        ddpg.learn(transitions(1))
        seen.clear()
    batch = transitions(6, cost=torch.arange(6.0))
    raw = [ddpg.actor_target(batch["next_state"]), ddpg.actor(batch["state"])]
    ddpg.learn(batch)
    assert len(seen) == 2
    for call, name, action in zip(seen, ("next_state", "state"), raw, strict=True):
        assert_close(call[0], action)
        assert_close(call[1], {"state": batch[name]})
        assert list(call[2]) == ["cost"]


def test_the_reward_function_gets_what_it_always_did() -> None:
    seen: list[Any] = []

    def reward_function(*given: Any) -> Tensor:
        seen.append(given)
        return torch.zeros_like(given[2])

    ddpg = make()
    ddpg.reward_function = reward_function
    batch = transitions(5, cost=torch.arange(5.0))
    q = ddpg.critic(batch["state"], batch["action"])
    assert_close(ddpg.learn(batch)["value_loss"], q.detach().square().mean())
    reward, discount, next_value, terminal, others = seen[0]
    assert (reward.shape, next_value.shape, terminal.shape) == ((5, 1),) * 3
    assert terminal.dtype == torch.bool
    assert discount == 0.9 and list(others) == ["cost"]


def test_rows_may_have_discounts_of_their_own() -> None:
    ddpg, other = make(), make(discount=0.3)
    batch = transitions(5)
    with_discount = transitions(5, discount=torch.full((5,), 0.3, dtype=torch.float64))
    assert_close(ddpg.learn(with_discount), other.learn(batch))


def test_networks_may_return_more() -> None:
    ddpg = make(actor=ActorExtra)
    ddpg.learn(transitions(4))
    action, extra = ddpg.act({"state": torch.ones(3, 4, dtype=torch.float64)})
    assert (action.shape, extra.shape) == ((3, 2), (3, 1))
    noisy, extra = ddpg.act_with_noise({"state": torch.ones(3, 4, dtype=torch.float64)})
    assert (noisy.shape, extra.shape) == ((3, 2), (3, 1))
    with pytest.raises(AssertionError):
        assert_close(noisy, action)


@pytest.mark.parametrize("use_target", [False, True])
def test_acting_asks_the_network_that_is_named(use_target: bool) -> None:
    ddpg = make()
    state = {"state": torch.ones(3, 4, dtype=torch.float64)}
    network = ddpg.actor_target if use_target else ddpg.actor
    want = network(state["state"]).detach()
    got = ddpg.act(state, use_target=use_target)
    assert not got.requires_grad
    assert_close(got, want)
    assert_close(ddpg._act(state, use_target), want)
    action = {"action": torch.zeros(3, 2, dtype=torch.float64)}
    critic = ddpg.critic_target if use_target else ddpg.critic
    assert_close(
        ddpg._criticize(state, action, use_target), critic(state["state"], *action.values())
    )


@pytest.mark.parametrize(
    ("mode", "param", "low", "high"),
    [
        ("uniform", (0.5, 1.0), 0.5, 1.0),
        ("normal", (10.0, 0.1), 9.0, 11.0),
        ("clipped_normal", (0.0, 5.0, -0.2, 0.3), -0.2, 0.3),
        ("ou", {"mu": 0.0, "sigma": 0.1}, -5.0, 5.0),
        ("ou", (0.0, 1.0), -5.0, 5.0),
        ("uniform", [(0.5, 1.0), (0.5, 0.6)], 0.5, 1.0),
    ],
)
def test_noise_of_each_mode_is_added(mode: str, param: Any, low: float, high: float) -> None:
    ddpg = make()
    state = {"state": torch.ones(50, 4, dtype=torch.float64)}
    noise = ddpg.act_with_noise(state, param, mode=mode) - ddpg.act(state)
    assert noise.shape == (50, 2) and noise.abs().max() > 0
    assert low <= noise.min() and noise.max() <= high
    half = ddpg.act_with_noise(state, param, ratio=0.0, mode=mode)
    assert_close(half, ddpg.act(state))


def test_noise_that_is_not_known_is_refused() -> None:
    ddpg = make()
    state = {"state": torch.ones(2, 4, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"Unknown noise type: mode must be one of .* got 'pink'"):
        ddpg.act_with_noise(state, mode="pink")
    with pytest.raises(ValueError, match="Noise param length doesn't match"):
        ddpg.act_with_noise(state, [(0.0, 1.0)] * 3)


def test_discrete_actions_are_the_most_probable() -> None:
    ddpg = make(actor=ActorProbability, critic=lambda: Critic(3))
    state = {"state": torch.randn(20, 4, dtype=torch.float64)}
    index, probability = ddpg.act_discrete(state)
    assert index.shape == (20, 1) and index.dtype == torch.int64
    assert_close(probability, ddpg.actor(state["state"]).detach())
    assert index.flatten().tolist() == [int(row.argmax()) for row in probability]
    index, drawn_with = ddpg.act_discrete_with_noise(state, choose_max_prob=1)
    assert_close(drawn_with, probability)
    assert index.shape == (20, 1) and index.dtype == torch.int64


def test_a_sure_actor_gets_its_best_action_as_often_as_asked() -> None:
    class Sure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, state: Tensor) -> Any:
            return torch.eye(3, dtype=state.dtype)[[1]].expand(len(state), 3), "extra"

    ddpg = make(actor=Sure)
    state = {"state": torch.zeros(4000, 4, dtype=torch.float64)}
    torch.manual_seed(0)
    index, probability, extra = ddpg.act_discrete_with_noise(state, choose_max_prob=0.8)
    assert extra == "extra"
    assert_close(probability[0].tolist(), [0.1, 0.8, 0.1])
    assert 0.77 < (index == 1).double().mean() < 0.83
    for wrong in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match=r"choose_max_prob must be in \(0, 1\], got"):
            ddpg.act_discrete_with_noise(state, choose_max_prob=wrong)


@pytest.mark.parametrize(
    "wrong",
    [[[0.5, 0.6]], [[1.5, -0.5]], [[float("nan"), 1.0]], [0.5, 0.5], [[[0.5, 0.5]]]],
)
def test_what_is_no_distribution_is_refused(wrong: Any) -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, state: Tensor) -> Tensor:
            return torch.tensor(wrong)

    ddpg = make(actor=Wrong)
    for act in (ddpg.act_discrete, ddpg.act_discrete_with_noise):
        with pytest.raises(ValueError, match="must return probabilities"):
            act({"state": torch.zeros(1, 4)})


def test_probabilities_are_learned_from_as_actions() -> None:
    ddpg = make(actor=ActorProbability, critic=lambda: Critic(3))
    batch = transitions(6, PROBABILITY)
    want = reference(ddpg, batch)
    check(ddpg, want, ddpg.learn(batch))


@pytest.mark.parametrize("frame", [DDPG, TD3, HDDPG, DDPGPer])
def test_wrong_shapes_are_named(frame: Any) -> None:
    class Wide(Critic):
        def forward(self, state: Tensor, action: Tensor) -> Tensor:
            return super().forward(state, action).expand(-1, 2)

    class Flat(Critic):
        def forward(self, state: Tensor, action: Tensor) -> Tensor:
            return super().forward(state, action).flatten()

    for critic, shape in ((Wide, r"\[5, 2\]"), (Flat, r"\[5\]")):
        with pytest.raises(
            ValueError, match=rf"critic(_target)? must return \[5, 1\], got {shape}"
        ):
            make(frame, critic=critic).learn(transitions(5))
    with pytest.raises(ValueError, match=r"reward must be one number a row, got \[5, 2\]"):
        make(frame).learn(transitions(5, reward=torch.zeros(5, 2)))


@pytest.mark.parametrize("frame", [DDPG, TD3, HDDPG, DDPGPer])
def test_lists_reach_networks_that_want_them(frame: Any) -> None:
    class ListActor(Actor):
        def forward(self, state: Any) -> Any:
            return super().forward(torch.cat(state))

    class ListCritic(Critic):
        def forward(self, state: Any, action: Any) -> Tensor:
            joined = torch.cat(action) if isinstance(action, list) else action
            return super().forward(torch.cat(state), joined)

    found = []
    for actor, critic, together in ((Actor, Critic, True), (ListActor, ListCritic, False)):
        ddpg = make(frame, actor, critic, batch_size=9)
        for network in ddpg.top_models:
            network.float()
        ddpg.store_episode(episode(9))
        np.random.seed(0)  # noqa: NPY002
        found.append((ddpg.update(concatenate_samples=together), parameters(*ddpg.top_models)))
    assert_close(*found, atol=1e-6, rtol=1e-5)


def test_networks_that_are_not_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="DDPG: networks must be alike, critic like critic_target"):
        DDPG(Actor(), Actor(), Critic(), Critic(3), torch.optim.SGD, nn.MSELoss())
    with pytest.raises(TypeError, match=r"DDPG: critic must be a torch.nn.Module, got int"):
        DDPG(Actor(), Actor(), 3, Critic(), torch.optim.SGD, nn.MSELoss())  # type: ignore[arg-type]


def test_a_failed_update_leaves_networks_as_they_were() -> None:
    ddpg = make()
    before = parameters(*ddpg.top_models)
    with pytest.raises(ValueError, match="DDPG: value loss must be finite, got nan"):
        ddpg.learn(transitions(3, reward=torch.full((3,), torch.nan, dtype=torch.float64)))
    assert_close(parameters(*ddpg.top_models), before, atol=0, rtol=0)


def test_lazy_updates_leave_out_what_is_not_finite() -> None:
    ddpg = make(lazy=True, optimizer=torch.optim.Adam, update_rate=None, update_steps=1000)
    before = parameters(ddpg.critic)
    ddpg.learn(transitions(3, reward=torch.full((3,), torch.nan, dtype=torch.float64)))
    assert_close(parameters(ddpg.critic), before, atol=0, rtol=0)
    ddpg.learn(transitions(3))
    with pytest.raises(AssertionError):
        assert_close(parameters(ddpg.critic), before)


@pytest.mark.parametrize("frame", [DDPG, TD3, HDDPG, DDPGPer])
def test_a_replay_may_be_the_memory(frame: Any) -> None:
    replay = Replay(100, priority="step" if frame is DDPGPer else None)
    ddpg = make(frame, replay_buffer=replay, batch_size=4)
    for network in ddpg.top_models:
        network.float()
    steps = episode(9, end="truncated")
    ddpg.store_episode(steps)
    assert len(replay) == 9
    assert replay.sample(4).terminated.any() == False  # noqa
    before = parameters(*ddpg.top_models)
    ddpg.update()
    with pytest.raises(AssertionError):
        assert_close(parameters(*ddpg.top_models), before)

"""A2C, and what all that learn from their own policy's steps share with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import (
    CONTINUOUS,
    DISCRETE,
    Calls,
    after_sgd,
    episode,
    parameters,
    seeded,
    trajectory,
)
from machin_fast.algorithms import A2C, PPO
from machin_fast.buffers import PrioritizedBuffer
from machin_fast.data import Batch, Replay, Trajectory, plans
from machin_fast.transition import Transition
from networks import ActorContinuous, ActorDiscrete, ValueNet, layers

ENDS = ("terminated", "truncated", "cut")


def make(**options: Any) -> A2C:
    actor = seeded(ActorDiscrete, seed=1).float()
    critic = seeded(ValueNet, seed=2).float()
    settings = {"batch_size": 5, "actor_learning_rate": 0.1, "critic_learning_rate": 0.1}
    return A2C(actor, critic, torch.optim.SGD, nn.MSELoss(), **{**settings, **options})


class TestContract(AlgorithmTests):
    frame = A2C
    models = ["networks.ActorDiscrete", "networks.ValueNet"]
    flags = {"update_value": ("critic",), "update_policy": ("actor",)}

    def make(self, **options: Any) -> A2C:
        return make(**options)

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, DISCRETE, **options)


def returns(
    steps: list[dict[str, Any]], critic: nn.Module, discount: float, lam: float, bootstrap: bool
) -> tuple[list[float], list[float]]:
    """Discounted returns and generalized advantages, as sums over what follows each step."""
    with torch.no_grad():
        value = [critic(each["state"]["state"]).item() for each in steps]
        end = critic(steps[-1]["next_state"]["state"]).item() if bootstrap else 0.0
    reward = [each["reward"] for each in steps]
    after = [*value[1:], end]
    n = len(steps)
    returned = [
        sum(discount ** (k - t) * reward[k] for k in range(t, n)) + discount ** (n - t) * end
        for t in range(n)
    ]
    delta = [reward[t] + discount * after[t] - value[t] for t in range(n)]
    advantage = [sum((discount * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)]
    return returned, advantage


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_steps_get_their_returns_and_advantages(lam: float, end: str, length: int) -> None:
    a2c = make(gae_lambda=lam, discount=0.9)
    steps = episode(length, DISCRETE, end=end)
    value, advantage = returns(steps, a2c.critic, 0.9, lam, end != "terminated")
    calls = Calls(a2c.critic)
    a2c.store_episode(steps)
    assert len(calls) == 1
    assert calls.rows == [length + (end != "terminated")]
    assert_close([each["value"] for each in steps], value, atol=1e-5, rtol=1e-5)
    assert_close([each["gae"] for each in steps], advantage, atol=1e-5, rtol=1e-5)
    assert all(type(each["gae"]) is float for each in steps)


def test_lambda_may_be_changed_later() -> None:
    a2c = make(gae_lambda=1.0, discount=0.9)
    a2c.gae_lambda = 0.0
    steps = episode(4, DISCRETE)
    a2c.store_episode(steps)
    _, advantage = returns(steps, a2c.critic, 0.9, 0.0, False)
    assert_close([each["gae"] for each in steps], advantage, atol=1e-5, rtol=1e-5)


def test_states_of_other_shapes_reach_the_critic_one_by_one() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, state: Tensor) -> Tensor:
            return self.scale * state.flatten(1).sum(1, keepdim=True)

    a2c = A2C(seeded(ActorDiscrete), Sum(), torch.optim.SGD, nn.MSELoss(), gae_lambda=1.0)
    steps = episode(3, DISCRETE)
    for t, each in enumerate(steps):
        each["state"] = {"state": torch.ones(1, t + 1)}
        each["reward"] = 0.0
    a2c.store_episode(steps)
    assert_close([each["gae"] for each in steps], [-1.0, -2.0, -3.0])


def test_transitions_must_bring_their_returns() -> None:
    a2c = make()
    steps: list[Any] = [Transition(**each) for each in episode(3, DISCRETE)]
    with pytest.raises(ValueError, match="missing"):
        a2c.store_episode(steps)
    steps = [Transition(**each, value=1.0, gae=2.0) for each in episode(3, DISCRETE)]
    a2c.store_episode(steps)
    assert a2c.replay_buffer.size() == 3
    a2c.update()


@pytest.mark.parametrize("actor", [ActorDiscrete, ActorContinuous])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weight", [None, -0.3, 0.2])
def test_one_step_is_that_of_the_equations(
    actor: type[nn.Module], normalize: bool, weight: float | None
) -> None:
    policy, critic = seeded(actor, seed=1), seeded(ValueNet, seed=2)
    a2c = A2C(
        policy, critic, torch.optim.SGD, nn.MSELoss(reduction="sum"),
        batch_size=100, actor_update_times=1, critic_update_times=1, actor_learning_rate=0.1,
        critic_learning_rate=0.2, value_weight=0.7, normalize_advantage=normalize,
        entropy_weight=weight,
    )  # fmt: skip
    kind = DISCRETE if actor is ActorDiscrete else CONTINUOUS
    data = a2c.recipe(trajectory([4, 3], kind, ends="tc"))
    _, log_prob, entropy = policy(data["state"], data["action"])
    advantage = data["advantage"]
    if normalize:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    total = sum(p * a for p, a in zip(log_prob.flatten(), advantage, strict=True))
    policy_loss = -total / 7 + (weight or 0) * entropy.mean()
    target = data["advantage"] + critic(data["state"]).flatten().detach()
    assert_close(data["value_target"], target)
    value_loss = 0.7 * ((critic(data["state"]).flatten() - target) ** 2).sum()
    want = after_sgd(policy, policy_loss, 0.1), after_sgd(critic, value_loss, 0.2)
    a2c.store(trajectory([4, 3], kind, ends="tc"))
    got = a2c.update()
    assert_close(got, (-policy_loss.item(), value_loss.item()))
    assert_close(parameters(policy), want[0])
    assert_close(parameters(critic), want[1])


def test_recipe_ends_traces_where_segments_end() -> None:
    a2c = make(gae_lambda=0.5, discount=0.9)
    a2c.critic.double()
    data = trajectory([3, 1, 4, 2], DISCRETE, ends="tlct")
    got = a2c.recipe(data)
    with torch.no_grad():
        value = a2c.critic(data["state"]).flatten()
        end = a2c.critic(data.final["state"]).flatten()
    want = []
    for i, (begin, stop) in enumerate(zip(data.bounds, data.bounds[1:], strict=False)):
        for t in range(begin, stop):
            total = 0.0
            for k in range(t, stop):
                after = value[k + 1] if k + 1 < stop else end[i]
                after = 0.0 if data["terminated"][k] else after
                total += 0.45 ** (k - t) * (data["reward"][k] + 0.9 * after - value[k])
            want.append(total)
    assert_close(got["advantage"], torch.stack(want))
    assert_close(got["value_target"], got["advantage"] + value)
    assert "advantage" not in data  # the caller's is as it was


def test_store_episode_and_store_say_the_same() -> None:
    data = trajectory([6], DISCRETE, ends="c", dtype=torch.float32)
    steps = [
        {
            "state": {"state": data["state"][t : t + 1]},
            "action": {"action": data["action"][t : t + 1]},
            "next_state": {"state": data.next("state")[t : t + 1]},
            "reward": data["reward"][t].item(),
            "terminal": False,
        }
        for t in range(6)
    ]
    one, other = make(batch_size=100), make(batch_size=100)
    one.store(data)
    other.store_episode(steps)
    assert_close(one.update(), other.update(), atol=1e-5, rtol=1e-4)
    assert_close(parameters(*one.top_models), parameters(*other.top_models), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frame", [A2C, PPO])
def test_both_kinds_of_memory_are_learned_from_together(frame: type[A2C]) -> None:
    a2c = frame(
        seeded(ActorDiscrete).float(), seeded(ValueNet).float(), torch.optim.SGD, nn.MSELoss(),
        epochs=1, batch_size=100,
    )  # fmt: skip
    a2c.store(trajectory([3, 2], DISCRETE, ends="tc", dtype=torch.float32, nested=True))
    a2c.store_episode(episode(4, DISCRETE))
    calls = Calls(a2c.critic)
    a2c.update()
    assert calls.rows == [9]


def test_minibatches_are_counted_and_have_distinct_rows() -> None:
    a2c = make(batch_size=4, actor_update_times=3, critic_update_times=6)
    a2c.store_episode(episode(10, DISCRETE))
    actor, critic = Calls(a2c.actor), Calls(a2c.critic)
    a2c.update()
    assert (actor.rows, critic.rows) == ([4] * 3, [4] * 6)
    for call in actor.inputs + critic.inputs:
        assert len({tuple(row) for row in call["state"].tolist()}) == 4


def test_fewer_steps_than_a_batch_are_all_of_them() -> None:
    a2c = make(batch_size=50, actor_update_times=2, critic_update_times=1)
    a2c.store_episode(episode(3, DISCRETE))
    actor = Calls(a2c.actor)
    a2c.update()
    assert actor.rows == [3, 3]


def test_epochs_go_over_all_steps_with_both_networks() -> None:
    a2c = make(batch_size=4, epochs=3)
    a2c.store_episode(episode(10, DISCRETE))
    actor, critic = Calls(a2c.actor), Calls(a2c.critic)
    a2c.update()
    assert actor.rows == critic.rows == [4, 4, 2] * 3
    for calls in (actor, critic):
        seen = Counter(tuple(row) for each in calls.inputs for row in each["state"].tolist())
        assert list(seen.values()) == [3] * 10


def test_a_negative_entropy_weight_encourages_exploration() -> None:
    def entropy_after(weight: float) -> float:
        a2c = make(entropy_weight=weight, batch_size=100, actor_update_times=1)
        steps = episode(8, DISCRETE)
        for each in steps:
            each.update(value=0.0, gae=0.0)
        a2c.replay_buffer.store_episode(steps)
        a2c.update()
        states = torch.cat([each["state"]["state"] for each in steps])
        return a2c.actor(states)[2].mean().item()

    assert entropy_after(-1.0) > entropy_after(0.0) > entropy_after(1.0)


def test_an_actor_without_entropy_is_asked_for_it_only_if_it_counts() -> None:
    class Pair(ActorDiscrete):
        def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
            return super().forward(state, action)[:2]

    a2c = A2C(Pair(), ValueNet(), torch.optim.Adam, nn.MSELoss())
    a2c.store_episode(episode(3, DISCRETE))
    a2c.update()
    a2c.entropy_weight = -0.1
    a2c.store_episode(episode(3, DISCRETE))
    with pytest.raises(ValueError, match="A2C: the actor must return an entropy"):
        a2c.update()


def test_networks_may_return_more() -> None:
    class More(ActorDiscrete):
        def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
            return *super().forward(state, action), state.sum(), "extra"

    class MoreValue(ValueNet):
        def forward(self, state: Tensor) -> Any:
            return super().forward(state), "extra"

    a2c = A2C(More(), MoreValue(), torch.optim.Adam, nn.MSELoss(), entropy_weight=-0.1)
    assert a2c.act({"state": torch.zeros(2, 4)})[-1] == "extra"
    a2c.store_episode(episode(3, DISCRETE))
    a2c.store(trajectory([4], DISCRETE, dtype=torch.float32))
    a2c.store_episode(episode(3, DISCRETE, seed=1))
    a2c = A2C(More(), MoreValue(), torch.optim.Adam, nn.MSELoss(), entropy_weight=-0.1)
    a2c.store_episode(episode(3, DISCRETE))
    a2c.update()


def test_memory_is_empty_after_an_update_and_takes_shorter_episodes() -> None:
    a2c = make(batch_size=100, actor_update_times=1)
    for length in (5, 4, 6):
        a2c.store_episode(episode(length, DISCRETE))
    a2c.store_episode(episode(2, DISCRETE))
    actor = Calls(a2c.actor)
    a2c.update()
    assert a2c.replay_buffer.size() == 0
    a2c.store_episode(episode(3, DISCRETE))
    a2c.update()
    assert actor.rows == [17, 3]


def test_a_state_holds_what_was_stored_by_trajectories() -> None:
    one, other = make(), make()
    for kind in ("tlc", "ctt"):
        one.store(trajectory([3, 4, 2], DISCRETE, ends=kind, dtype=torch.float32, seed=len(kind)))
    other.load_state_dict(one.state_dict())
    torch.manual_seed(0)
    want = one.update(), parameters(*one.top_models)
    torch.manual_seed(0)
    assert other.update() == want[0]
    assert_close(parameters(*other.top_models), want[1], atol=0, rtol=0)
    other.load_state_dict(one.state_dict(memory=False))
    with pytest.raises(ValueError, match="must hold a transition"):
        other.update()


def test_learn_over_a_plan_needs_no_memory() -> None:
    a2c = make()
    a2c.actor.double()
    a2c.critic.double()
    data = a2c.recipe(trajectory([5, 5], DISCRETE))
    before = parameters(a2c.actor)
    figures = a2c.over(plans.epochs(data, batch_size=4, epochs=2))
    assert set(figures) == {"policy_loss", "value_loss"}
    assert all(type(each) is float for each in figures.values())
    with pytest.raises(AssertionError):
        assert_close(parameters(a2c.actor), before)
    assert a2c.over([]) == {}
    batch = next(iter(plans.full(data)))
    a2c.learn(batch, update_value=False, update_policy=False)


def test_states_of_several_keys_reach_the_networks_that_take_them() -> None:
    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = ActorDiscrete()

        def forward(self, seen: Tensor, action: Tensor | None = None) -> Any:
            return self.net(seen, action)

    class Value(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = layers(8, 1)

        def forward(self, seen: Tensor, hidden_from_actor: Tensor) -> Tensor:
            return self.net(torch.cat([seen, hidden_from_actor], 1))

    a2c = A2C(Policy(), Value(), torch.optim.Adam, nn.MSELoss(), batch_size=4)
    steps = episode(5, DISCRETE)
    for each in steps:
        for name in ("state", "next_state"):
            x = each[name]["state"]
            each[name] = {"seen": x, "hidden_from_actor": x + 1}
    a2c.store_episode(steps)
    a2c.update()


def test_wrong_shapes_are_named() -> None:
    def learn(actor: nn.Module, critic: nn.Module) -> None:
        a2c = A2C(actor, critic, torch.optim.Adam, nn.MSELoss(), entropy_weight=0.1)
        columns = {
            "state": torch.zeros(5, 4),
            "action": torch.zeros(5, 1),
            "advantage": torch.zeros(5),
            "value_target": torch.zeros(5),
        }
        a2c.learn(Batch(columns, torch.arange(5), None))

    class Wide(ActorDiscrete):
        def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
            action, log_prob, entropy = super().forward(state, action)
            return action, log_prob.view(-1, 1).expand(-1, 2), entropy

    class Alone(ActorDiscrete):
        def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
            return super().forward(state, action)[0]

    class Flat(ValueNet):
        def forward(self, state: Tensor) -> Any:
            return super().forward(state).flatten()

    learn(ActorDiscrete(), ValueNet())
    with pytest.raises(ValueError, match=r"actor must return log_prob \[5, 1\], got \[5, 2\]"):
        learn(Wide(), ValueNet())
    with pytest.raises(ValueError, match=r"must return \(action, log_prob, ...\), got 1 of them"):
        learn(Alone(), ValueNet())
    with pytest.raises(ValueError, match=r"critic must return \[5, 1\], got \[5\]"):
        learn(ActorDiscrete(), Flat())


def test_missing_columns_are_named() -> None:
    batch = Batch({"state": torch.zeros(2, 4), "action": torch.zeros(2, 1)}, torch.arange(2), None)
    with pytest.raises(ValueError, match="batch must have advantage"):
        make().learn(batch)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gae_lambda", 1.1), ("epochs", 0), ("actor_update_times", -1), ("critic_update_times", -1)],
)
def test_options_out_of_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"A2C: {name} must be"):
        make(**{name: value})


def test_gradients_are_clipped() -> None:
    a2c = make(gradient_max=1e-3, batch_size=100, actor_update_times=1, critic_update_times=1)
    a2c.store_episode(episode(9, DISCRETE))
    before = parameters(a2c.actor), parameters(a2c.critic)
    a2c.update()
    for old, network in zip(before, (a2c.actor, a2c.critic), strict=True):
        pairs = zip(old, parameters(network), strict=True)
        moved = sum((x - y).square().sum().item() for x, y in pairs) ** 0.5
        assert 0 < moved <= 0.1 * 1e-3 * 1.01


def test_lists_reach_networks_that_want_them() -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = ActorDiscrete()

        def forward(self, state: Any, action: Any = None) -> Any:
            if isinstance(state, list):
                state, action = torch.cat(state), torch.cat(action)
            return self.net(state, action)

    class RaggedValue(ValueNet):
        def forward(self, state: Any) -> Any:
            return super().forward(torch.cat(state) if isinstance(state, list) else state)

    a2c = A2C(Ragged(), RaggedValue(), torch.optim.Adam, nn.MSELoss(), batch_size=4)
    a2c.store_episode(episode(6, DISCRETE))
    a2c.update(concatenate_samples=False)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 2), "much", None])
def test_a_reward_that_is_no_number_is_refused(wrong: Any) -> None:
    steps = episode(3, DISCRETE)
    steps[1]["reward"] = wrong
    a2c = make()
    with pytest.raises(ValueError, match=r"A2C\.store_episode: reward must be one number a step"):
        a2c.store_episode(steps)
    assert a2c.replay_buffer.size() == 0


def test_a_criterion_must_return_one_number() -> None:
    a2c = make()
    a2c.criterion = nn.MSELoss(reduction="none")
    a2c.store_episode(episode(3, DISCRETE))
    with pytest.raises(ValueError, match="A2C: criterion must return one number"):
        a2c.update()
    assert not a2c.actor.training


def test_networks_on_several_devices_must_say_where_they_want_their_inputs() -> None:
    critic = ValueNet()
    critic.net[2] = nn.Linear(8, 1, device="meta")
    a2c = A2C(ActorDiscrete(), critic, torch.optim.SGD, nn.MSELoss())
    with pytest.raises(RuntimeError, match="Failed to automatically determine i/o device"):
        a2c.store_episode(episode(3, DISCRETE))


def test_what_followed_must_be_known() -> None:
    data = trajectory([3], DISCRETE, ends="c", dtype=torch.float32)
    bare = Trajectory({name: data[name] for name in ("state", "action", "reward")})
    with pytest.raises(ValueError, match="must have next_state"):
        make().store(bare)


@pytest.mark.parametrize("frame", [A2C, PPO])
def test_actor_and_critic_may_share_layers_and_some_may_be_frozen(frame: type[A2C]) -> None:
    actor, critic = ActorDiscrete(), ValueNet()
    critic.net[0] = actor.net[0]
    for parameter in actor.net[0].parameters():
        parameter.requires_grad_(False)
    before = parameters(actor.net[0])
    a2c = frame(actor, critic, torch.optim.Adam, nn.MSELoss())
    a2c.store_episode(episode(5, DISCRETE))
    a2c.update()
    assert_close(parameters(actor.net[0]), before, atol=0, rtol=0)


@pytest.mark.parametrize("frame", [A2C, PPO])
def test_episodes_may_hold_what_others_do_not(frame: type[A2C]) -> None:
    a2c = frame(ActorDiscrete(), ValueNet(), torch.optim.Adam, nn.MSELoss(), batch_size=100)
    a2c.store_episode(episode(3, DISCRETE, end="truncated", advantage="mine", note=[1, 2]))
    a2c.store_episode(episode(4, DISCRETE))
    actor = Calls(a2c.actor)
    a2c.update()
    assert set(actor.rows) == {7}


@pytest.mark.parametrize("buffer", [PrioritizedBuffer(9), Replay(9)])
def test_memories_that_draw_by_priority_are_refused(buffer: Any) -> None:
    with pytest.raises(TypeError, match="A2C: replay_buffer must be a Buffer without priorities"):
        make(replay_buffer=buffer)

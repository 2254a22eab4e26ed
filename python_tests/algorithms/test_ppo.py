"""PPO."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import DISCRETE, Calls, after_sgd, episode, parameters, seeded, trajectory
from machin_fast.algorithms import PPO, SAC
from machin_fast.data import Replay, plans, transforms
from machin_fast.data.trajectory import concat
from networks import ActorContinuous, ActorDiscrete, Critic, ValueNet


def make(*, double: bool = False, **options: Any) -> PPO:
    actor, critic = seeded(ActorDiscrete, seed=1), seeded(ValueNet, seed=2)
    settings = {"batch_size": 5, "actor_learning_rate": 0.1, "critic_learning_rate": 0.1}
    ppo = PPO(actor, critic, torch.optim.SGD, nn.MSELoss(), **{**settings, **options})
    if not double:
        actor.float(), critic.float()
    return ppo


class TestContract(AlgorithmTests):
    frame = PPO
    models = ["networks.ActorDiscrete", "networks.ValueNet"]
    flags = {"update_value": ("critic",), "update_policy": ("actor",)}

    def make(self, **options: Any) -> PPO:
        return make(**options)

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, DISCRETE, **options)


def clip_loss(log_prob: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    total = torch.zeros((), dtype=log_prob.dtype)
    for new, was, gain in zip(log_prob.flatten(), old.flatten(), advantage.flatten(), strict=True):
        ratio = torch.exp(new - was)
        near = ratio if abs(ratio - 1) <= clip else torch.sign(ratio - 1) * clip + 1
        total = total - torch.minimum(ratio * gain, near * gain)
    return total / log_prob.numel()


def of_another(data: Any, shift: float = 0.0) -> Tensor:
    """Log-probabilities of another policy, some far from ours."""
    with torch.no_grad():
        found: Tensor = seeded(ActorDiscrete, seed=7)(data["state"], data["action"])[1]
    return found + shift


@pytest.mark.parametrize("clip", [0.01, 0.2, 10.0])
@pytest.mark.parametrize("weight", [None, -0.3])
def test_the_step_is_that_of_the_clipped_surrogate(clip: float, weight: float | None) -> None:
    ppo = make(double=True, surrogate_loss_clip=clip, entropy_weight=weight)
    data = trajectory([6, 3], DISCRETE, ends="tl")
    data = ppo.recipe(data.with_columns(log_prob=of_another(data)))
    _, log_prob, entropy = ppo.actor(data["state"], data["action"])
    advantage = data["advantage"]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    assert ((log_prob - data["log_prob"]).exp() - 1).abs().max() > 0.2
    loss = clip_loss(log_prob, data["log_prob"], advantage, clip)
    loss = loss + (weight or 0) * entropy.mean()
    value_loss = 0.5 * (ppo.critic(data["state"]).flatten() - data["value_target"]).square().mean()
    want = after_sgd(ppo.actor, loss, 0.1), after_sgd(ppo.critic, value_loss, 0.1)
    figures = ppo.over(plans.full(data))
    assert_close(figures["policy_loss"], loss.item())
    assert_close(figures["value_loss"], value_loss.item())
    ratio = (log_prob - data["log_prob"]).exp()
    assert_close(figures["kl"], (ratio - 1 - ratio.log()).mean().item())
    assert_close(parameters(ppo.actor), want[0])
    assert_close(parameters(ppo.critic), want[1])


def test_old_probabilities_are_computed_once_an_update() -> None:
    ppo = make(batch_size=4, actor_update_times=3, critic_update_times=2)
    ppo.store_episode(episode(10, DISCRETE))
    actor = Calls(ppo.actor)
    ppo.update()
    assert actor.rows == [10, 4, 4, 4]
    assert set(actor.inputs[0]) >= {"state", "action"}


def test_old_probabilities_are_of_the_policy_before_the_update() -> None:
    """With two steps over the same rows, the second loss is against the first policy."""
    ppo = make(double=True, actor_update_times=2, critic_update_times=0, batch_size=100)
    data = trajectory([9], DISCRETE)
    ready = ppo.recipe(data)
    other = seeded(ActorDiscrete, seed=1)
    old = other(ready["state"], ready["action"])[1].detach()
    advantage = ready["advantage"]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    losses = []
    for _ in range(2):
        log_prob = other(ready["state"], ready["action"])[1]
        losses.append(clip_loss(log_prob, old, advantage, 0.2))
        with torch.no_grad():
            want = after_sgd_of(other, losses[-1])
            for parameter, new in zip(other.parameters(), want, strict=True):
                parameter.copy_(new)
    ppo.store(data)
    policy_loss, value_loss = ppo.update()
    assert_close(policy_loss, -torch.stack(losses).mean().item())
    assert value_loss == 0
    assert_close(parameters(ppo.actor), parameters(other))


def after_sgd_of(network: nn.Module, loss: Tensor) -> list[Tensor]:
    with torch.enable_grad():
        return after_sgd(network, loss, 0.1)


def test_stored_probabilities_are_used() -> None:
    ppo = make(double=True)
    data = trajectory([8], DISCRETE)
    stored = of_another(data)
    actor = Calls(ppo.actor)
    assert_close(ppo.recipe(data.with_columns(log_prob=stored))["log_prob"], stored)
    assert len(actor) == 0


@pytest.mark.parametrize("as_tensor", [False, True])
def test_stored_probabilities_of_machins_episodes_are_used(as_tensor: bool) -> None:
    ppo = make(batch_size=100, actor_update_times=1, normalize_advantage=False)
    steps = episode(6, DISCRETE)
    state = torch.cat([each["state"]["state"] for each in steps])
    action = torch.cat([each["action"]["action"] for each in steps])
    log_prob = ppo.actor(state, action)[1].detach()
    old = log_prob - 0.15
    for each, number in zip(steps, old, strict=True):
        each["action_log_prob"] = number.view(1, 1) if as_tensor else number.item()
    actor = Calls(ppo.actor)
    ppo.store_episode(steps)
    value, _ = ppo.update()
    assert actor.rows == [6]
    advantage = torch.tensor([each["gae"] for each in steps])
    assert_close(value, -clip_loss(log_prob, old, advantage, 0.2).item(), atol=1e-5, rtol=1e-4)


def test_the_penalty_on_the_divergence_replaces_the_clip() -> None:
    ppo = make(double=True, kl_target=0.01, normalize_advantage=False)
    ppo.kl_weight = torch.tensor(0.7)
    data = trajectory([6], DISCRETE)
    data = ppo.recipe(data.with_columns(log_prob=of_another(data)))
    log_prob = ppo.actor(data["state"], data["action"])[1]
    ratio = (log_prob - data["log_prob"]).exp()
    kl = ratio - 1 - ratio.log()
    loss = (0.7 * kl - ratio * data["advantage"]).mean()
    want = after_sgd(ppo.actor, loss, 0.1)
    figures = ppo.learn(next(iter(plans.full(data))))
    assert_close(figures["policy_loss"], loss.detach())
    assert_close(parameters(ppo.actor), want)
    assert ppo.kl_weight == torch.tensor(0.7)  # a batch alone changes nothing


@pytest.mark.parametrize("epochs", [None, 2])
@pytest.mark.parametrize(("rate", "factor"), [(0.0, 1 / 1.5), (5.0, 1.5)])
def test_the_penalty_adapts_once_an_update(rate: float, factor: float, epochs: int | None) -> None:
    ppo = make(kl_target=0.01, actor_learning_rate=rate, epochs=epochs, batch_size=5)
    for i in (1, 2):
        ppo.store_episode(episode(10, DISCRETE))
        ppo.update()
        assert_close(float(ppo.kl_weight), factor**i)
        ppo.actor.load_state_dict(seeded(ActorDiscrete, seed=1).float().state_dict())


def test_the_penalty_sees_what_a_single_step_did() -> None:
    ppo = make(kl_target=1e-4, actor_learning_rate=5.0, actor_update_times=1, batch_size=100)
    ppo.store_episode(episode(10, DISCRETE))
    ppo.update()
    assert_close(float(ppo.kl_weight), 1.5)


def test_the_penalty_stays_if_the_policy_does() -> None:
    ppo = make(kl_target=0.01)
    ppo.store_episode(episode(10, DISCRETE))
    ppo.update(update_policy=False)
    assert ppo.kl_weight == 1
    assert ppo.over([]) == {} and ppo.kl_weight == 1


def test_over_adapts_the_penalty_once() -> None:
    ppo = make(double=True, kl_target=1e-4, actor_learning_rate=5.0)
    ppo.over(plans.epochs(ppo.recipe(trajectory([10], DISCRETE)), batch_size=4, epochs=2))
    assert_close(float(ppo.kl_weight), 1.5)


@pytest.mark.parametrize(("name", "value"), [("surrogate_loss_clip", 0.0), ("kl_target", -1.0)])
def test_options_out_of_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"PPO: {name} must be above 0"):
        make(**{name: value})


def test_two_environments_make_one_policy() -> None:
    """Meta-learning: advantages are centred per environment, episodes side by side."""
    ppo = make(double=True)
    prepare = transforms.chain(
        transforms.values(ppo.critic),
        transforms.gae(0.995, 0.95),
        transforms.normalize("advantage"),
    )
    parts = []
    for seed in (1, 2):
        data = trajectory([4, 6, 3], DISCRETE, ends="tlc", seed=seed)
        parts.append(prepare(data.with_columns(log_prob=of_another(data))))
    before = parameters(ppo.actor)
    ppo.over(plans.episodes(concat(parts), batch_size=4, epochs=2))
    with pytest.raises(AssertionError):
        assert_close(parameters(ppo.actor), before)


def test_one_policy_learns_by_two_algorithms() -> None:
    actor = seeded(ActorContinuous)
    pairs = [(seeded(Critic, seed=i), seeded(Critic, seed=i)) for i in (1, 2)]
    ppo = PPO(actor, seeded(ValueNet), torch.optim.Adam, nn.MSELoss())
    sac = SAC(actor, *pairs[0], *pairs[1], torch.optim.Adam, nn.MSELoss())
    replay = Replay(100)
    for seed in (1, 2):
        new = trajectory([5, 4], ends="tl", seed=seed)
        info = ppo.over(plans.epochs(ppo.recipe(new), batch_size=4, epochs=2))
        replay.append(new)
        info |= sac.over(plans.uniform(replay, batch_size=8, batches=3))
        assert set(info) == {"policy_loss", "value_loss", "kl", "alpha", "entropy"}
    assert ppo.actor is sac.actor

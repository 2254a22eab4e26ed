"""TRPO."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, kl_divergence
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import CONTINUOUS, DISCRETE, Calls, episode, parameters, seeded, trajectory
from machin_fast.algorithms import TRPO
from machin_fast.data import Trajectory, plans
from machin_fast.policies import CategoricalPolicy, GaussianPolicy
from networks import ActorDiscrete, QNet, ValueNet
from trpo_networks import Continuous, Discrete, Misled


def categorical() -> CategoricalPolicy:
    return CategoricalPolicy(QNet())


def gaussian() -> GaussianPolicy:
    return GaussianPolicy(QNet(actions=2), 2, log_std=-0.5)


KINDS = {Discrete: DISCRETE, Continuous: CONTINUOUS, categorical: DISCRETE, gaussian: CONTINUOUS}


def make(actor: Any = Discrete, **options: Any) -> TRPO:
    policy, critic = seeded(actor, seed=1), seeded(ValueNet, seed=2)
    return TRPO(policy, critic, torch.optim.SGD, nn.MSELoss(), **{"batch_size": 5, **options})


class TestContract(AlgorithmTests):
    frame = TRPO
    models = ["trpo_networks.Discrete", "networks.ValueNet"]
    flags = {"update_value": ("critic",), "update_policy": ("actor",)}

    def make(self, **options: Any) -> TRPO:
        trpo = make(**options)
        trpo.actor.float(), trpo.critic.float()
        return trpo

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, DISCRETE, **options)

    def test_a_single_transition_is_enough(self) -> None:
        trpo = self.fed(1)  # its only advantage is the mean of all
        before = parameters(trpo.actor)
        trpo.update()
        assert_close(parameters(trpo.actor), before, atol=0, rtol=0)


def distribution(actor: nn.Module, state: Tensor) -> Any:
    """Without the library's own distributions."""
    with torch.no_grad():
        if isinstance(actor, Discrete):
            return Categorical(probs=actor.net(state).softmax(1))
        if isinstance(actor, Continuous):
            return Normal(actor.net(state), actor.action_log_std.exp())
        if isinstance(actor, GaussianPolicy):
            return Normal(actor.net(state), actor.log_std.exp())
        return Categorical(logits=actor.net(state))


def surrogate(actor: nn.Module, old: nn.Module, data: Trajectory) -> float:
    total, advantage = 0.0, data["advantage"]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    for state, action, gain in zip(data["state"], data["action"], advantage, strict=True):
        logs = []
        for each in (actor, old):
            found = distribution(each, state[None])
            chosen = action if isinstance(found, Categorical) else action[None]
            logs.append(found.log_prob(chosen).sum())
        total -= ((logs[0] - logs[1]).exp() * gain).item() / len(data)
    return total


@pytest.mark.parametrize("actor", KINDS)
@pytest.mark.parametrize("delta", [1e-3, 0.05, 1.0])
def test_the_step_stays_in_the_trust_region_and_lowers_the_loss(actor: Any, delta: float) -> None:
    trpo = make(actor, kl_max_delta=delta)
    old = copy.deepcopy(trpo.actor)
    data = trpo.recipe(trajectory([8, 5], KINDS[actor], ends="tc"))
    figures = trpo.over(plans.full(data))
    divergence = kl_divergence(
        distribution(old, data["state"]), distribution(trpo.actor, data["state"])
    )
    divergence = divergence.sum() / len(data)
    assert 1e-3 * delta < divergence <= delta * (1 + 1e-6)
    assert_close(figures["kl"], divergence.item())
    assert_close(figures["policy_loss"], surrogate(old, old, data))
    assert surrogate(trpo.actor, old, data) < surrogate(old, old, data)


@pytest.mark.parametrize("actor", [Discrete, Continuous])
def test_fisher_information_and_second_derivatives_give_the_same_step(actor: Any) -> None:
    found = []
    for mode in ("fim", "direct"):
        trpo = make(actor, hv_mode=mode)
        trpo.over(plans.full(trpo.recipe(trajectory([9], KINDS[actor]))))
        found.append(parameters(trpo.actor))
    assert_close(*found, atol=1e-9, rtol=1e-7)


def test_policies_step_as_machins_actors_do() -> None:
    data = trajectory([9], DISCRETE)
    one, other = make(Discrete), make(categorical)
    other.actor.net.net.load_state_dict(one.actor.net.state_dict())
    for trpo in (one, other):
        trpo.over(plans.full(trpo.recipe(data)))
    assert_close(parameters(one.actor), parameters(other.actor), atol=1e-9, rtol=1e-7)


def test_the_direction_is_the_natural_gradient() -> None:
    """The Fisher information written out, and the equation solved."""
    trpo = make(
        Discrete, conjugate_iterations=70, conjugate_res_threshold=1e-30, damping=0.05,
        kl_max_delta=1e-4, normalize_advantage=False,
    )  # fmt: skip
    data = trpo.recipe(trajectory([7], DISCRETE))
    actor, n = trpo.actor, len(data)
    known = list(actor.parameters())

    def flat_gradient(x: Tensor) -> Tensor:
        found = torch.autograd.grad(x, known, retain_graph=True)
        return torch.cat([each.flatten() for each in found])

    log_prob = actor.net(data["state"]).log_softmax(1)
    fisher: Any = 0
    gradient: Any = 0
    for t in range(n):
        for a in range(3):
            score = flat_gradient(log_prob[t, a])
            fisher = fisher + log_prob[t, a].exp().detach() * torch.outer(score, score) / n
        taken = log_prob[t, int(data["action"][t])]
        gradient = gradient - data["advantage"][t] * flat_gradient(taken) / n
    matrix = fisher + 0.05 * torch.eye(len(fisher), dtype=fisher.dtype)
    direction = torch.linalg.solve(matrix, -gradient)
    step = (2 * 1e-4 / direction.dot(matrix @ direction)).sqrt() * direction
    before = torch.cat([each.flatten() for each in parameters(actor)])
    trpo.over(plans.full(data))
    after = torch.cat([each.flatten() for each in parameters(actor)])
    assert_close(after - before, step, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("backtracks", [0, 1, 4])
def test_a_line_search_that_finds_nothing_changes_nothing(backtracks: int) -> None:
    trpo = make(lambda: CategoricalPolicy(Misled()), line_search_backtracks=backtracks)
    data = trpo.recipe(trajectory([12], DISCRETE))
    before = parameters(trpo.actor)
    calls = Calls(trpo.actor)
    figures = trpo.over(plans.full(data))
    assert_close(parameters(trpo.actor), before, atol=0, rtol=0)
    assert figures["kl"] == 0
    assert len(calls) == 1 + backtracks  # the loss before, and of each trial


def test_without_a_gradient_nothing_happens() -> None:
    for actor in (Discrete, categorical):
        trpo = make(actor)
        data = trpo.recipe(trajectory([6], DISCRETE))
        data = data.with_columns(advantage=torch.ones(6, dtype=torch.float64))
        before = parameters(trpo.actor)
        assert trpo.over(plans.full(data))["kl"] == 0
        assert_close(parameters(trpo.actor), before, atol=0, rtol=0)
        assert not trpo.actor.training


def test_the_actor_learns_from_all_steps_and_the_critic_from_minibatches() -> None:
    trpo = make(critic_update_times=3)
    trpo.actor.float(), trpo.critic.float()
    trpo.store_episode(episode(8, DISCRETE))
    critic = Calls(trpo.critic)
    before = parameters(trpo.actor)
    figures = trpo.update()
    assert [type(each) for each in figures] == [float, float]
    assert critic.rows == [5] * 3
    assert trpo.replay_buffer.size() == 0
    with pytest.raises(AssertionError):
        assert_close(parameters(trpo.actor), before)


def test_steps_of_sequences_count_as_rows_do() -> None:
    found = []
    for plan in (plans.full, lambda data: plans.episodes(data, batch_size=9, shuffle=False)):
        for actor in (Discrete, categorical):
            trpo = make(actor)
            trpo.over(plan(trpo.recipe(trajectory([5, 2, 4], DISCRETE))))
            found.append(parameters(*trpo.top_models))
    assert_close(found[0], found[2], atol=1e-9, rtol=1e-7)
    assert_close(found[1], found[3], atol=1e-9, rtol=1e-7)


def test_machins_helpers() -> None:
    trpo = make()
    flat = trpo.get_flat_params(trpo.actor)
    assert_close(flat, torch.cat([each.flatten() for each in parameters(trpo.actor)]))
    trpo.set_flat_params(trpo.actor, flat + 1)
    assert_close(trpo.get_flat_params(trpo.actor), flat + 1)
    loss = sum(x.square().sum() for x in trpo.actor.parameters())
    gradient = trpo.get_flat_grad(loss, trpo.actor.parameters())
    assert_close(gradient, 2 * (flat + 1))


def test_other_actors_and_options_are_refused() -> None:
    with pytest.raises(TypeError, match=r"TRPO: actor must be one of model\.algorithms\.trpo"):
        make(ActorDiscrete)
    with pytest.raises(ValueError, match="TRPO: kl_max_delta must be above 0"):
        make(kl_max_delta=0)
    with pytest.raises(ValueError, match="TRPO: damping must be at least 0"):
        make(damping=-1)


@pytest.mark.parametrize("mode", ["fim", "direct"])
def test_layers_may_be_frozen(mode: str) -> None:
    for actor in (Discrete, categorical):
        trpo = make(actor, hv_mode=mode)
        first, *_, last = list(trpo.actor.parameters())
        first.requires_grad_(False)
        before = first.clone(), last.detach().clone()
        trpo.over(plans.full(trpo.recipe(trajectory([6], DISCRETE))))
        assert_close(first, before[0], atol=0, rtol=0)
        with pytest.raises(AssertionError):
            assert_close(last, before[1])


def test_what_a2c_takes_besides_does_nothing_and_warns():
    with pytest.warns(UserWarning, match=r"TRPO: arguments must be known, got actor_update_times"):
        trpo = make(actor_update_times=3)
    assert trpo.actor_update_times == 1
    with pytest.warns(UserWarning, match=r"TRPO: arguments must be known, got epochs"):
        assert make(epochs=3).epochs is None

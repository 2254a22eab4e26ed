"""SAC."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import (
    DISCRETE,
    after_sgd,
    episode,
    follow,
    parameters,
    seeded,
    transitions,
)
from machin_fast.algorithms import SAC
from machin_fast.policies import CategoricalPolicy, TanhGaussianPolicy
from networks import ActorContinuous, Critic, QNet
from off_policy import load


def make(actor: Any = ActorContinuous, critic: Any = Critic, count: int = 2, **options: Any) -> SAC:
    """Online networks differ from their targets."""
    pairs = [(seeded(critic, seed=2 + i), seeded(critic, seed=6 + i)) for i in range(count)]
    second = pairs[1] if count > 1 else (None, None)
    settings = {
        "update_rate": 0.1, "actor_learning_rate": 0.1, "critic_learning_rate": 0.2,
        "alpha_learning_rate": 0.05, "discount": 0.9, "initial_entropy_alpha": 0.3,
    }  # fmt: skip
    sac = SAC(
        seeded(actor, seed=1), *pairs[0], *second, torch.optim.SGD, nn.MSELoss(),
        critics=pairs[2:], **{**settings, **options},
    )  # fmt: skip
    for i, name in enumerate(names(count)):
        getattr(sac, name).load_state_dict(seeded(critic, seed=10 + i).state_dict())
    return sac


def names(count: int) -> list[str]:
    return ["critic", "critic2", "critic3"][:count]


class TestContract(AlgorithmTests):
    frame = SAC
    models = ["networks.ActorContinuous"] + ["networks.Critic"] * 4
    rates = {"actor_optim": 0, "critic_optim": 1, "critic2_optim": 1, "alpha_optim": 2}
    flags = {
        "update_value": ("critic", "critic2"),
        "update_policy": ("actor",),
        "update_target": ("critic_target", "critic2_target"),
    }

    def make(self, **options: Any) -> SAC:
        sac = make(**options)
        for network in sac.top_models:
            network.float()
        return sac

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, **options)


def least(sac: SAC, count: int, target: str, state: Tensor, *action: Tensor) -> Tensor:
    found = [getattr(sac, name + target)(state, *action) for name in names(count)]
    result = found[0]
    for each in found[1:]:
        result = torch.where(each < result, each, result)
    return result


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("entropy", [None, 1.5])
def test_an_update_is_that_of_the_equations(count: int, entropy: float | None) -> None:
    sac = make(count=count, target_entropy=entropy)
    batch = transitions(16)
    other = copy.deepcopy(sac)
    torch.manual_seed(7)
    with torch.no_grad():
        action, log_prob, _ = other.actor(batch["next_state"])
        after = least(other, count, "_target", batch["next_state"], action) - 0.3 * log_prob
    y = [
        r + (0 if end else 0.9 * v)
        for r, end, v in zip(batch["reward"], batch["terminated"], after.flatten(), strict=True)
    ]
    want: dict[str, Any] = {}
    losses = []
    for name in names(count):
        q = getattr(other, name)(batch["state"], batch["action"]).flatten()
        losses.append(sum((a - b) ** 2 for a, b in zip(q, y, strict=True)) / 16)
        want[name] = after_sgd(getattr(other, name), losses[-1], 0.2)
        target = getattr(other, f"{name}_target")
        want[f"{name}_target"] = follow(parameters(target), want[name], 0.1)
    for name in names(count):
        load(getattr(other, name), want[name])
    action, log_prob, _ = other.actor(batch["state"])
    assert action.requires_grad
    q = least(other, count, "", batch["state"], action)
    policy_loss = sum(0.3 * a - b for a, b in zip(log_prob, q, strict=True)).squeeze() / 16
    want["actor"] = after_sgd(other.actor, policy_loss, 0.1)
    torch.manual_seed(7)
    figures = sac.learn(batch)
    for name, values in want.items():
        assert_close(parameters(getattr(sac, name)), values)
    assert_close(figures["policy_loss"], policy_loss.detach())
    assert_close(figures["value_loss"], sum(losses).detach() / count)
    assert_close(figures["entropy"], -log_prob.mean().detach())
    # d/d alpha of -log(alpha) * mean(log_prob + target)
    slope = 0 if entropy is None else -(log_prob.mean().item() + entropy) / 0.3
    assert_close(sac.entropy_alpha.item(), 0.3 - 0.05 * slope, atol=1e-6, rtol=1e-6)
    assert_close(figures["alpha"].item(), sac.entropy_alpha.item())
    assert sac.entropy_alpha.shape == (1,)


def test_three_critics_are_all_that_a_framework_knows_of_them() -> None:
    sac = make(count=3)
    assert len(sac.top_models) == 7 and len(sac.optimizers) == 5
    assert len(sac.restorable_models) == 4
    other = make(count=3)
    state = sac.state_dict()
    with torch.no_grad():
        sac.critic3.net[0].bias.add_(1)
    other.load_state_dict(sac.state_dict())
    assert_close(parameters(other.critic3), parameters(sac.critic3), atol=0, rtol=0)
    other.load_state_dict(state)
    with pytest.raises(AssertionError):
        assert_close(parameters(other.critic3), parameters(sac.critic3))


def test_the_temperature_moves_only_with_a_target() -> None:
    sac = make()
    sac.learn(transitions(8))
    assert_close(sac.entropy_alpha.item(), 0.3)
    sac.target_entropy = 5.0  # more than there is
    sac.learn(transitions(8), update_entropy_alpha=False)
    assert_close(sac.entropy_alpha.item(), 0.3)
    sac.learn(transitions(8))
    assert sac.entropy_alpha.item() > 0.3
    sac.target_entropy = -50.0
    before = sac.entropy_alpha.item()
    sac.learn(transitions(8))
    assert sac.entropy_alpha.item() < before


@pytest.mark.parametrize(("target", "end"), [(1e9, 1e6), (-1e9, 1e-6)])
def test_the_temperature_is_kept_in_its_range(target: float, end: float) -> None:
    sac = make(target_entropy=target)
    sac.learn(transitions(8))
    assert_close(sac.entropy_alpha.item(), end)
    sac.learn(transitions(8))
    assert torch.isfinite(sac.entropy_alpha).all()


def test_auto_is_minus_the_size_of_an_action() -> None:
    sac = make(target_entropy="auto")
    sac.learn(transitions(4))
    assert sac.target_entropy == -2
    sac = make(categorical, QNet, discrete=True, target_entropy="auto")
    sac.learn(transitions(4, DISCRETE))
    assert_close(sac.target_entropy, 0.98 * math.log(3))


def categorical() -> CategoricalPolicy:
    return CategoricalPolicy(QNet())


@pytest.mark.parametrize("count", [1, 2])
def test_discrete_actions_are_summed_over(count: int) -> None:
    sac = make(categorical, QNet, count, discrete=True, target_entropy=0.7)
    batch = transitions(9, DISCRETE)
    other = copy.deepcopy(sac)

    def expectation(state: Tensor, target: str, alpha: float) -> Any:
        """Of q - alpha log pi, action by action, and the entropy."""
        log_prob = other.actor.net(state).log_softmax(1)
        q = least(other, count, target, state).detach()
        total: Any = 0
        entropy: Any = 0
        for a in range(3):
            probability = log_prob[:, a].exp()
            total = total + probability * (q[:, a] - alpha * log_prob[:, a])
            entropy = entropy - probability * log_prob[:, a]
        return total, entropy

    with torch.no_grad():
        after, _ = expectation(batch["next_state"], "_target", 0.3)
    y = batch["reward"] + 0.9 * after * ~batch["terminated"]
    losses = []
    want = {}
    for name in names(count):
        rows = getattr(other, name)(batch["state"])
        taken = [row[int(a)] for row, a in zip(rows, batch["action"], strict=True)]
        losses.append(sum((q - b) ** 2 for q, b in zip(taken, y, strict=True)) / 9)
        want[name] = after_sgd(getattr(other, name), losses[-1], 0.2)
    for name in names(count):
        load(getattr(other, name), want[name])
    value, entropy = expectation(batch["state"], "", 0.3)
    want["actor"] = after_sgd(other.actor, -value.mean(), 0.1)
    figures = sac.learn(batch)
    for name, values in want.items():
        assert_close(parameters(getattr(sac, name)), values)
    assert_close(figures["value_loss"], sum(losses).detach() / count)
    assert_close(figures["entropy"], entropy.mean().detach())
    slope = (entropy.mean().item() - 0.7) / 0.3
    assert_close(sac.entropy_alpha.item(), 0.3 - 0.05 * slope, atol=1e-6, rtol=1e-6)


def test_discrete_actions_are_stored_as_machin_stores_them() -> None:
    sac = make(categorical, QNet, discrete=True)
    for network in sac.top_models:
        network.float()
    sac.store_episode(episode(6, DISCRETE))
    sac.update()
    assert sac.act({"state": torch.zeros(2, 4)})[0].shape == (2, 1)


def test_each_critic_is_restored_from_its_own_target(tmp_path: Path) -> None:
    sac = make(count=3)
    sac.save(str(tmp_path))
    other = make(count=3)
    for i, network in enumerate(other.top_models):
        for parameter in network.parameters():
            nn.init.constant_(parameter, float(i))
    other.load(str(tmp_path))
    for name in names(3):
        saved = parameters(getattr(sac, f"{name}_target"))
        assert_close(parameters(getattr(other, f"{name}_target")), saved, atol=0, rtol=0)
        assert_close(parameters(getattr(other, name)), saved, atol=0, rtol=0)
    assert_close(parameters(other.actor), parameters(sac.actor), atol=0, rtol=0)


def test_the_transform_is_used_for_targets_and_policy() -> None:
    seen: list[Any] = []

    def transform(raw: Tensor, state: Any, others: Any) -> Any:
        seen.append((raw, state, others))
        return {"action": raw * 2}

    sac = make()
    sac.action_transform_function = transform
    batch = transitions(5, cost=torch.arange(5.0))
    sac.learn(batch)
    assert [list(each[2]) for each in seen] == [["cost"], ["cost"]]
    assert_close(seen[0][1], {"state": batch["next_state"]})
    assert_close(seen[1][1], {"state": batch["state"]})
    assert seen[1][0].requires_grad and not seen[0][0].requires_grad


def test_policies_of_ours_and_networks_that_return_more() -> None:
    class More(ActorContinuous):
        def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
            action, log_prob, _ = super().forward(state, action)
            return action, log_prob.flatten(), "extra"

    sac = make(More)
    sac.learn(transitions(5))
    assert sac.act({"state": torch.zeros(2, 4, dtype=torch.float64)})[-1] == "extra"
    sac = make(lambda: TanhGaussianPolicy(QNet(actions=4)), target_entropy="auto")
    sac.learn(transitions(5))
    action = sac.act({"state": torch.zeros(2, 4, dtype=torch.float64)})[0]
    assert action.shape == (2, 2) and not action.requires_grad


def test_the_critics_can_be_asked() -> None:
    sac, batch = make(), transitions(3)
    known = {"state": batch["state"]}, {"action": batch["action"]}
    for i, ask in enumerate((sac._criticize, sac._criticize2)):
        for target in (False, True):
            network = getattr(sac, names(2)[i] + "_target" * target)
            assert_close(ask(*known, use_target=target), network(batch["state"], batch["action"]))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"critic_target must return \[5, 1\], got \[5, 3\]"):
        make(critic=QNet).learn(transitions(5))

    class Wide(ActorContinuous):
        def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
            action, log_prob, entropy = super().forward(state, action)
            return action, log_prob.expand(-1, 2), entropy

    with pytest.raises(ValueError, match=r"actor must return log_prob \[5, 1\], got \[5, 2\]"):
        make(Wide).learn(transitions(5))


def test_options_out_of_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="SAC: initial_entropy_alpha must be above 0, got 0"):
        make(initial_entropy_alpha=0)
    with pytest.raises(ValueError, match="target_entropy must be a number, 'auto' or None"):
        make(target_entropy="much")
    with pytest.raises(ValueError, match="critic2 and critic2_target must both be given"):
        SAC(
            ActorContinuous(), Critic(), Critic(), Critic(), None, torch.optim.SGD, nn.MSELoss()
        )  # fmt: skip


def test_a_memory_keeps_the_temperature_going() -> None:
    sac = make(target_entropy=-1.0)
    sac.learn(transitions(5))
    state = sac.state_dict()
    other = make(target_entropy=-9.0)
    other.load_state_dict(state)
    assert_close(other.entropy_alpha, sac.entropy_alpha, atol=0, rtol=0)
    assert other.target_entropy == -1.0
    assert other.entropy_alpha is other.alpha_optim.param_groups[0]["params"][0]

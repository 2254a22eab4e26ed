"""DDPG and its kin: how tests make them, and one update of the equations."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from algorithm_contract import AlgorithmTests
from experience import after_sgd, episode, follow, parameters, seeded
from machin_fast.algorithms import DDPG, TD3
from networks import Actor, Critic


def make(frame: Any = DDPG, actor: Any = Actor, critic: Any = Critic, **options: Any) -> Any:
    """Online networks differ from their targets."""
    critics = ["critic", "critic2"] if issubclass(frame, TD3) else ["critic"]
    networks = {"actor": seeded(actor, seed=1), "actor_target": seeded(actor, seed=2)}
    for i, name in enumerate(critics):
        networks[name] = seeded(critic, seed=3 + i)
        networks[f"{name}_target"] = seeded(critic, seed=5 + i)
    settings = {
        "optimizer": torch.optim.SGD, "criterion": nn.MSELoss(), "update_rate": 0.1,
        "actor_learning_rate": 0.1, "critic_learning_rate": 0.2, "discount": 0.9,
    }  # fmt: skip
    ddpg = frame(**networks, **{**settings, **options})
    for i, name in enumerate(["actor", *critics]):
        fresh = seeded(actor if name == "actor" else critic, seed=10 + i)
        getattr(ddpg, name).load_state_dict(fresh.state_dict())
    return ddpg


class OffPolicyTests(AlgorithmTests):
    """Of all that are made by ``make``."""

    models = ["networks.Actor"] * 2 + ["networks.Critic"] * 2
    flags = {
        "update_value": ("critic",),
        "update_policy": ("actor",),
        "update_target": ("actor_target", "critic_target"),
    }

    def make(self, **options: Any) -> Any:
        made = make(self.frame, **options)
        for network in made.top_models:
            network.float()
        return made

    def episode(self, steps: int, **options: Any) -> list[dict[str, Any]]:
        return episode(steps, **options)


def reference(ddpg: Any, batch: Any, *, goal: Any = None) -> dict[str, Any]:
    """One update, row by row."""
    actor, actor_target = copy.deepcopy(ddpg.actor), copy.deepcopy(ddpg.actor_target)
    critic, critic_target = copy.deepcopy(ddpg.critic), copy.deepcopy(ddpg.critic_target)
    n = len(batch)
    value_loss: Any = 0
    errors = []
    for i in range(n):
        after = batch["next_state"][i : i + 1]
        with torch.no_grad():
            next_value = critic_target(after, actor_target(after)).squeeze()
        y = batch["reward"][i] + (0 if batch["terminated"][i] else 0.9 * next_value)
        q = critic(batch["state"][i : i + 1], batch["action"][i : i + 1]).squeeze()
        errors.append((q - y).abs().item())
        if goal is not None:
            y = goal(q.item(), float(y))
        value_loss = value_loss + (q - y) ** 2 / n
    new_critic = after_sgd(critic, value_loss, 0.2)
    load(critic, new_critic)
    policy_loss: Any = 0
    for i in range(n):
        state = batch["state"][i : i + 1]
        policy_loss = policy_loss - critic(state, actor(state)).squeeze() / n
    new_actor = after_sgd(actor, policy_loss, 0.1)
    return {
        "critic": new_critic,
        "actor": new_actor,
        "critic_target": follow(parameters(critic_target), new_critic, 0.1),
        "actor_target": follow(parameters(actor_target), new_actor, 0.1),
        "figures": {"policy_loss": policy_loss.detach(), "value_loss": value_loss.detach()},
        "errors": errors,
    }


def load(network: nn.Module, values: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(value)


def check(ddpg: Any, want: dict[str, Any], figures: Any) -> None:
    assert_close(figures, want["figures"])
    for name in ("critic", "actor", "critic_target", "actor_target"):
        assert_close(parameters(getattr(ddpg, name)), want[name])

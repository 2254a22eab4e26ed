"""Machin 0.4.2's own algorithms.

As a whole it does not import where its old dependencies (gym, moviepy, torchviz, numpy 1) are not;
its algorithms do, given empty ones of those that only log or draw.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from benchmarks import machin_buffers
from benchmarks.learners import (
    BOUND,
    CLIP,
    CRITIC_STEPS,
    DAMPING,
    DICTS,
    DISCOUNT,
    DIVERGENCE,
    HIGH,
    ITERATIONS,
    LAMBDA,
    LOW,
    NOISE,
    RATE,
    SEARCHES,
    STEPS,
    TEMPERATURE,
    Task,
    Update,
    episodes,
    prove_moves,
    storing,
)
from benchmarks.peers import load
from benchmarks.plain_learners import Critic, RainbowNet, mlp


class _Nothing(ModuleType):
    """A module whose functions do nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


class _Colourless(ModuleType):
    """As much of colorlog as Machin uses."""

    StreamHandler = logging.StreamHandler
    getLogger = staticmethod(logging.getLogger)  # noqa: N815

    @staticmethod
    def ColoredFormatter(*_: Any, **__: Any) -> logging.Formatter:  # noqa: N802
        return logging.Formatter()


@cache
def algorithm(name: str) -> Any:
    """A class of Machin's, such as "DQN".

    Raises:
        PeerError: Machin is not installed, or does not load.
    """
    machin_buffers.machin()
    folder = Path(sys.modules["machin"].__path__[0])
    for module, stand_in in (
        ("torchviz", _Nothing), ("tensorboardX", _Nothing), ("colorlog", _Colourless),
    ):  # fmt: skip
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            sys.modules[module] = stand_in(module)
    packages = ("utils", "model", "model.nets", "model.algorithms", "frame.algorithms",
                "frame.noise")  # fmt: skip
    for package in (f"machin.{each}" for each in packages):
        module_of = ModuleType(package)
        module_of.__path__ = [str(folder.joinpath(*package.split(".")[1:]))]
        sys.modules.setdefault(package, module_of)
    found = load(f"machin.frame.algorithms.{_FILES.get(name, name.lower())}")
    logging.getLogger("default_logger").setLevel(logging.ERROR)
    return getattr(found, name)


_FILES = {"DQNPer": "dqn_per"}


class QNet(nn.Module):
    def __init__(self, net: nn.Module, softmax: bool = False) -> None:
        super().__init__()
        self.net, self.softmax = net, softmax

    def forward(self, state: Tensor) -> Tensor:
        found: Tensor = self.net(state)
        return found.softmax(-1) if self.softmax else found


class TanhActor(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net = mlp(task.width, task.actions, task.hidden)

    def forward(self, state: Tensor) -> Tensor:
        action: Tensor = self.net(state).tanh()
        return action


class GaussianActor(nn.Module):
    """As in Machin's examples of SAC."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net = mlp(task.width, 2 * task.actions, task.hidden)

    def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
        mean, log_std = self.net(state).chunk(2, 1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        x = normal.rsample() if action is None else action.clamp(-0.999, 0.999).atanh()
        log_prob = normal.log_prob(x) - (1 - x.tanh().square() + 1e-6).log()
        return x.tanh(), log_prob.sum(1, keepdim=True), normal.entropy()


class ChoosingActor(nn.Module):
    """As in Machin's examples of PPO."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net = mlp(task.width, task.actions, task.hidden, nn.Tanh)

    def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
        policy = Categorical(logits=self.net(state))
        action = policy.sample() if action is None else action
        log_prob = policy.log_prob(action.flatten()).unsqueeze(1)
        return action.view(-1, 1), log_prob, policy.entropy()


def value_net(task: Task) -> QNet:
    return QNet(mlp(task.width, 1, task.hidden, nn.Tanh))


def trust_region_actor(task: Task) -> nn.Module:
    module_of_nets = sys.modules["machin.model.nets"]
    module_of_nets.NeuralNetworkModule = load("machin.model.nets.base").NeuralNetworkModule  # type: ignore[attr-defined]
    base = load("machin.model.algorithms.trpo").ActorDiscrete

    class Actor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(task.width, task.actions, task.hidden, nn.Tanh)
            self.set_input_module(self.net[0])
            self.set_output_module(self.net[-1])

        def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
            return self.sample(self.net(state).softmax(1), action)

    made: nn.Module = Actor()
    return made


def _networks(task: Task) -> list[nn.Module]:
    name = task.algorithm
    makers: dict[str, Callable[[], list[nn.Module]]] = {
        "RAINBOW": lambda: [QNet(RainbowNet(task), softmax=True) for _ in range(2)],
        "DDPG": lambda: [TanhActor(task), TanhActor(task), Critic(task), Critic(task)],
        "SAC": lambda: [GaussianActor(task), *(Critic(task) for _ in range(4))],
        "TRPO": lambda: [trust_region_actor(task), value_net(task)],
    }
    makers["TD3"] = lambda: [*makers["DDPG"](), Critic(task), Critic(task)]
    makers["A2C"] = makers["PPO"] = lambda: [ChoosingActor(task), value_net(task)]
    if name in makers:
        return makers[name]()
    return [QNet(mlp(task.width, task.actions, task.hidden)) for _ in range(2)]


def make(task: Task, **options: Any) -> Any:
    """Its algorithm.

    Raises:
        PeerError: Machin is not installed, or does not load.
    """
    name = task.algorithm
    cls = algorithm(name)
    options.update(batch_size=task.batch, discount=DISCOUNT)
    if name in ("DQN", "DQNPer", "RAINBOW"):
        options["learning_rate"] = task.learning_rate
    else:
        options.update(
            actor_learning_rate=task.learning_rate, critic_learning_rate=task.learning_rate
        )
    criterion = [] if name == "RAINBOW" else [nn.MSELoss()]
    if not task.on_policy:
        options["update_rate"] = RATE
    if name == "RAINBOW":
        options.update(value_min=LOW, value_max=HIGH, reward_future_steps=STEPS)
    elif name == "SAC":
        options.update(target_entropy=-float(task.actions), initial_entropy_alpha=TEMPERATURE)
    elif task.on_policy:
        options.update(gae_lambda=LAMBDA)
        if name == "TRPO":
            options.update(
                kl_max_delta=DIVERGENCE, damping=DAMPING, line_search_backtracks=SEARCHES,
                conjugate_iterations=ITERATIONS, critic_update_times=CRITIC_STEPS,
            )  # fmt: skip
        else:
            steps = task.epochs * task.rows // task.batch
            options.update(
                actor_update_times=steps, critic_update_times=steps, gradient_max=task.norm
            )
        if name == "PPO":
            options["surrogate_loss_clip"] = CLIP
    return cls(*_networks(task), task.optimizer, *criterion, **options)


def machin(task: Task) -> Update:
    """``store_episode`` and ``update``. Its TD3 has no delay: twice the steps of the actor."""
    torch.manual_seed(0)
    if task.on_policy:
        learner = make(task)
        update = storing(task, learner)
        learning = [*learner.actor.parameters(), *learner.critic.parameters()]
    else:
        task = replace(task, rows=min(task.rows, DICTS))
        learner = make(task, replay_size=task.rows)
        for episode in episodes(task):
            learner.store_episode(episode)
        update = learner.update
        learning = list((learner.actor if hasattr(learner, "actor") else learner.qnet).parameters())
        if task.algorithm == "TD3":
            learner.policy_noise_function = _noisy
    prove_moves(update, learning)
    return update


def _noisy(action: Tensor, *_: Any) -> Tensor:
    noise = (torch.randn_like(action) * NOISE).clamp(-BOUND, BOUND)
    return (action + noise).clamp(-1, 1)

"""How algorithms act in a trainer."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from machin_fast import algorithms
from machin_fast.model import for_spaces
from machin_fast.training import Behaviour, Settings, Trainer, seed_everything

BOX, FEW = gymnasium.spaces.Box(-1, 1, (4,)), gymnasium.spaces.Discrete(3)
ACTIONS = gymnasium.spaces.Box(torch.tensor([-2.0, 0.0]).numpy(), torch.tensor([2.0, 1.0]).numpy())
NAMES = {"DQNPer": "dqn_per", "DDPGPer": "ddpg_per"}
DISCRETE = ("DQN", "DQNPer", "RAINBOW", "A2C", "PPO", "TRPO", "SAC")
CONTINUOUS = ("DDPG", "DDPGPer", "HDDPG", "TD3", "SAC", "A2C", "PPO", "TRPO")


def make(name: str, actions: Any, observations: Any = BOX, **networks: Any) -> Any:
    seed_everything(0)
    made = for_spaces(observations, actions, NAMES.get(name, name.lower()), **networks)
    options: dict[str, Any] = {"batch_size": 8, "optimizer": torch.optim.Adam}
    if name == "RAINBOW":
        options.update(value_min=-1.0, value_max=1.0)
    else:
        options["criterion"] = nn.MSELoss()
    return getattr(algorithms, name)(*made, **options)


def first(found: Any) -> torch.Tensor:
    if isinstance(found, dict):
        return found["action"]
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize(
    ("name", "actions"),
    [*((name, FEW) for name in DISCRETE), *((name, ACTIONS) for name in CONTINUOUS)],
)
def test_each_algorithm_explores_and_is_greedy_when_judged(name: str, actions: Any) -> None:
    algorithm = make(name, actions)
    behaviour = Behaviour(algorithm, actions, noise=0.1)
    state = {"state": torch.zeros(1000, 4)}
    explored, greedy = first(behaviour.explore(state)), first(behaviour.act(state))
    assert len(explored) == len(greedy) == 1000
    assert len(explored.unique(dim=0)) > 1 or name == "RAINBOW"  # its noise is the same for all
    assert len(greedy.unique(dim=0)) == 1
    if isinstance(actions, gymnasium.spaces.Discrete):
        assert explored.numel() == 1000 and explored.min() >= 0 and explored.max() < 3
    elif hasattr(algorithm, "act_with_noise"):
        low, high = (torch.from_numpy(x) for x in (actions.low, actions.high))
        assert ((explored >= low) & (explored <= high)).all()
        # A tenth of half the range of each.
        assert explored.std(0).tolist() == pytest.approx([0.2, 0.05], rel=0.1)


@pytest.mark.parametrize(
    ("name", "env", "networks"),
    [
        ("DQN", "CartPole-v1", {}),
        ("DDPG", "CartPole-v1", {}),
        ("DDPG", "Pendulum-v1", {}),
        ("SAC", "Pendulum-v1", {}),
        ("TRPO", "Pendulum-v1", {}),
        ("PPO", "CartPole-v1", {"recurrent": "lstm"}),
    ],
)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_whole_runs(name: str, env: str, networks: dict[str, Any], mode: AutoresetMode) -> None:
    options = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    envs = gymnasium.make_vec(env, 3, **options)
    spaces = envs.single_observation_space, envs.single_action_space
    if name == "DDPG" and env == "CartPole-v1":
        actor, critic = Probabilities(), Judge()
        seed_everything(0)
        algorithm: Any = algorithms.DDPG(
            actor, Probabilities(), critic, Judge(), torch.optim.Adam, nn.MSELoss(), batch_size=8
        )
    else:
        algorithm = make(name, spaces[1], spaces[0], **networks)
    settings = Settings(steps=90, rollout=10, evaluation_every=90, evaluation_episodes=1)
    before = [x.clone() for x in algorithm.top_models[0].parameters()]
    outcome = Trainer(algorithm, envs, settings, evaluation_envs=gymnasium.make(env)).train()
    assert outcome.progress.updates >= 3
    assert len(outcome.progress.evaluations) == 1
    after = algorithm.top_models[0].parameters()
    assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))


class Probabilities(nn.Module):
    """A deterministic actor with discrete actions, Machin's way."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 2)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.net(state).softmax(1)


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 1)

    def forward(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([state, action], 1))


def test_an_actor_without_a_mode_acts_as_in_training() -> None:
    class Actor(nn.Linear):
        def forward(self, state: torch.Tensor, action: Any = None) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
            action = torch.rand(len(state), 1)
            return action, action, action

    _, critic = for_spaces(BOX, FEW)
    ppo = algorithms.PPO(Actor(4, 1), critic, torch.optim.SGD, nn.MSELoss())
    behaviour = Behaviour(ppo, FEW)
    assert len(first(behaviour.act({"state": torch.zeros(9, 4)})).unique()) == 9


def test_functions_stand_in() -> None:
    behaviour = Behaviour(object(), FEW, explore=lambda _: "explored", act=lambda _: "acted")
    assert (behaviour.explore({}), behaviour.act({})) == ("explored", "acted")


def test_actions_that_an_algorithm_cannot_take_are_refused() -> None:
    unbounded = gymnasium.spaces.Box(-torch.inf, torch.inf, (2,))
    with pytest.raises(ValueError, match="actions must be in a Box with bounds to explore by noi"):
        Behaviour(make("DDPG", ACTIONS), unbounded)
    with pytest.raises(ValueError, match="action_space must be Discrete for DQN, got Box"):
        Behaviour(make("DQN", FEW), ACTIONS)

"""Whole training runs, each to a stated score within a stated number of steps.

``test_learning.py`` runs each on one seed; ``make learn`` on three, and writes docs/learning.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor, nn

from machin_fast import algorithms
from machin_fast.data import Replay
from machin_fast.model import for_spaces
from machin_fast.training import Hooks, Settings, Trainer, seed_everything

EPISODES = 20  # of an evaluation
GOALS = {"CartPole-v1": 475.0, "MountainCar-v0": -110.0, "Pendulum-v1": -200.0}
WITHOUT_VELOCITIES = " without velocities"  # one observation does not tell what to do


@dataclass(frozen=True)
class Run:
    """What to train, and how.

    Attributes:
        algorithm: Name of the class.
        env: Of Gymnasium.
        most_steps: Environment steps within which 20 greedy episodes must average the goal.
        options: Of the algorithm.
        networks: Keyword arguments of ``for_spaces``.
        envs: Environments side by side.
        chunk: Steps in each of them between two phases of learning.
        updates: Calls of ``update`` in a phase.
        warm_up: Steps before the first update.
        epsilon: Steps over which the share of random actions falls from 1 to 0.05.
        hold: Steps that a random action lasts, on average.
        noise: Deviation of noise on actions, as a part of half their range.
        reward_steps: Rewards to sum before the value of a later state is trusted.
        window, burn_in: Steps of the sequences that recurrent values learn from, and those that
            only warm up.
        evaluation: Steps between two evaluations.
    """

    algorithm: str
    env: str
    most_steps: int
    options: dict[str, Any]
    networks: dict[str, Any] = field(default_factory=dict)
    envs: int = 8
    chunk: int = 16
    updates: int = 1
    warm_up: int = 0
    epsilon: int = 0
    hold: int = 1
    noise: float = 0.0
    reward_steps: int = 1
    window: int | None = None
    burn_in: int = 0
    evaluation: int = 2000

    @property
    def goal(self) -> float:
        return GOALS[self.env.removesuffix(WITHOUT_VELOCITIES)]

    def but(self, **changes: Any) -> Run:
        """Another one; ``options`` are added to those here."""
        options = {**self.options, **changes.pop("options", {})}
        return Run(**{**vars(self), **changes, "options": options})


@dataclass
class Outcome:
    """What came of a run: environment steps, seconds, and the score of each evaluation."""

    steps: int
    seconds: float
    scores: list[tuple[int, float]]


# -- the runs -----------------------------------------------------------------------------------

# Layer norm steadies learning of values, even without target networks (Gallici et al. 2024,
# arXiv:2407.04811).
WIDE = {"hidden": (128, 128), "layer_norm": True}
LSTM = {"recurrent": "lstm", "hidden": (64,)}

DQN = Run(
    "DQN", "CartPole-v1", 80_000,
    {"batch_size": 64, "learning_rate": 1e-3, "update_rate": 0.01, "gradient_max": 10.0},
    WIDE, updates=32, warm_up=1000, epsilon=10_000, reward_steps=3,
)  # fmt: skip
DDPG = Run(
    "DDPG", "Pendulum-v1", 20_000,
    {
        "batch_size": 128, "update_rate": 0.005,
        "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3,
    },
    envs=4, chunk=8, updates=32, warm_up=1000, noise=0.2, evaluation=1000,
)  # fmt: skip
SAC = DDPG.but(
    algorithm="SAC", noise=0.0, options={"target_entropy": "auto", "initial_entropy_alpha": 0.2}
)
PPO = Run(
    "PPO", "CartPole-v1", 100_000,
    {
        "batch_size": 256, "epochs": 10, "gae_lambda": 0.95,
        "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3,
    },
    chunk=64,
)  # fmt: skip
PPO_PENDULUM = PPO.but(
    env="Pendulum-v1", most_steps=300_000, envs=16, chunk=128, evaluation=10_000,
    options={"discount": 0.9},
)  # fmt: skip
TRPO = Run(
    "TRPO", "CartPole-v1", 100_000,
    {
        "batch_size": 256, "critic_update_times": 20, "gae_lambda": 0.95,
        "critic_learning_rate": 3e-3, "kl_max_delta": 0.02,
    },
    chunk=64,
)  # fmt: skip
A2C = Run(
    "A2C", "CartPole-v1", 200_000,
    {
        "batch_size": 256, "actor_update_times": 1, "critic_update_times": 1, "gae_lambda": 0.95,
        "actor_learning_rate": 2e-3, "critic_learning_rate": 2e-3, "entropy_weight": -0.01,
        "gradient_max": 0.5,
    },
    envs=16,
)  # fmt: skip

RUNS = {
    "DQN vanilla": DQN.but(options={"mode": "vanilla"}),
    "DQN fixed_target": DQN.but(options={"mode": "fixed_target"}),
    "DQN double": DQN,
    "DQN recurrent": DQN.but(
        env="CartPole-v1" + WITHOUT_VELOCITIES, most_steps=200_000, networks=LSTM, window=24,
        burn_in=8, chunk=64, updates=64, warm_up=2000, epsilon=20_000, reward_steps=1,
        options={"batch_size": 32},
    ),
    "DQNPer": DQN.but(algorithm="DQNPer"),
    "RAINBOW": DQN.but(
        algorithm="RAINBOW", epsilon=0, reward_steps=1,
        options={"value_min": 0.0, "value_max": 100.0},
    ),
    "RAINBOW MountainCar": DQN.but(
        algorithm="RAINBOW", env="MountainCar-v0", networks={"hidden": (64, 64)},
        updates=16, epsilon=20_000, hold=16, reward_steps=1,
        options={
            "value_min": -100.0, "value_max": 0.0, "reward_future_steps": 10, "update_rate": 0.02,
        },
    ),
    "DDPG": DDPG,
    "DDPGPer": DDPG.but(algorithm="DDPGPer"),
    "HDDPG": DDPG.but(algorithm="HDDPG", options={"q_decrease_rate": 0.9}),
    "TD3": DDPG.but(
        algorithm="TD3",
        options={"policy_delay": 2, "target_noise": (0.4, 1.0), "action_range": (-2.0, 2.0)},
    ),
    "SAC": SAC,
    "SAC discrete": SAC.but(
        env="CartPole-v1", most_steps=100_000, networks=WIDE, envs=8, chunk=16,
        reward_steps=3, evaluation=2000,
        options={
            "discrete": True, "batch_size": 64, "update_rate": 0.01, "actor_learning_rate": 3e-4,
        },
    ),
    "A2C": A2C,
    "PPO": PPO,
    "PPO kl": PPO.but(options={"kl_target": 0.02}),
    "PPO continuous": PPO_PENDULUM,
    "PPO recurrent": PPO.but(
        env="CartPole-v1" + WITHOUT_VELOCITIES, most_steps=300_000, networks=LSTM, envs=16,
        options={"batch_size": 16},
    ),
    "TRPO": TRPO,
    "TRPO continuous": TRPO.but(
        env="Pendulum-v1", most_steps=300_000, envs=16, chunk=128, evaluation=10_000,
        options={"discount": 0.9, "critic_update_times": 80, "critic_learning_rate": 1e-3},
    ),
}  # fmt: skip


# -- how they are run ---------------------------------------------------------------------------


def train(run: Run, seed: int, report: Callable[[int, float], None] | None = None) -> Outcome:
    """Trains until the goal is reached, or ``most_steps`` are taken."""
    seed_everything(seed)
    envs = make_envs(run.env, run.envs)
    settings = Settings(
        steps=run.most_steps, goal=run.goal, rollout=run.chunk, updates=run.updates,
        warm_up=run.warm_up, reward_steps=run.reward_steps, noise=run.noise,
        epsilon_end=0.05 if run.epsilon else 0.0, epsilon_steps=run.epsilon,
        evaluation_every=run.evaluation, evaluation_episodes=EPISODES, seed=seed,
    )  # fmt: skip
    algorithm = make_algorithm(run, envs)
    trainer = Trainer(
        algorithm, envs, settings, evaluation_envs=make_envs(run.env, EPISODES),
        explore=None if run.hold == 1 else Holding(algorithm, run.hold),
        hooks=[] if report is None else [Report(report)],
    )  # fmt: skip
    progress = trainer.train().progress
    return Outcome(progress.steps, progress.seconds, progress.evaluations)


class Report(Hooks):
    """Tells of each evaluation."""

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self.tell = tell

    def on_evaluation(self, trainer: Trainer, returns: Any) -> None:
        self.tell(*trainer.progress.evaluations[-1])


class Holding:
    """Explores by random actions that last, each for ``hold`` steps on average.

    A step at random does not get far from where the last one was. Source: Dabney et al. 2021,
    arXiv:2006.01782, but with lengths of a geometric distribution.
    """

    def __init__(self, algorithm: Any, hold: int) -> None:
        self.algorithm = algorithm
        self.hold = hold
        self.instead = torch.tensor(-1)  # -1: none, the network chooses

    def __call__(self, state: Any) -> Tensor:
        share, self.algorithm.epsilon = self.algorithm.epsilon, 0.0
        action: Tensor = self.algorithm.act_discrete_with_noise(state, decay_epsilon=False)
        self.algorithm.epsilon = share
        other = torch.randint_like(action, 3)
        other = other.masked_fill(torch.rand(action.shape) >= share, -1)
        anew = torch.rand(action.shape) < 1 / self.hold
        self.instead = torch.where(anew, other, self.instead)
        return torch.where(self.instead < 0, action, self.instead)


def make_algorithm(run: Run, envs: VectorEnv[Any, Any, Any]) -> Any:
    """The algorithm with networks for these environments."""
    names = {"DQNPer": "dqn_per", "DDPGPer": "ddpg_per"}
    name = names.get(run.algorithm, run.algorithm.lower())
    spaces = envs.single_observation_space, envs.single_action_space
    networks = for_spaces(*spaces, name, **run.networks)
    options = {"optimizer": torch.optim.Adam, **run.options}
    values = run.algorithm.startswith(("DQN", "RAINBOW"))
    if run.algorithm != "RAINBOW":
        options["criterion"] = nn.HuberLoss() if values else nn.MSELoss()
    if run.algorithm not in ("A2C", "PPO", "TRPO"):
        prioritized = run.algorithm in ("DQNPer", "DDPGPer", "RAINBOW")
        options["replay_buffer"] = Replay(
            50_000, priority="step" if prioritized else None, window=run.window
        )
    algorithm = getattr(algorithms, run.algorithm)(*networks, **options)
    algorithm.burn_in = run.burn_in
    return algorithm


def make_envs(name: str, count: int) -> VectorEnv[Any, Any, Any]:
    """Environments that reset themselves in the last step of an episode."""
    whole = name.removesuffix(WITHOUT_VELOCITIES)
    partly = [without_velocities] if whole != name else []
    wrappers = [scaled] if name == "MountainCar-v0" else partly
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(
        whole, count, vectorization_mode="sync", vector_kwargs=mode, wrappers=wrappers
    )


def without_velocities(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """CartPole's position and angle alone, in parts of what ends an episode; Pendulum's angle."""
    if env.observation_space.shape == (4,):
        seen, scale = [0, 2], np.array([2.4, 0.2095], np.float32)
    else:
        seen, scale = [0, 1], np.ones(2, np.float32)
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return gymnasium.wrappers.TransformObservation(env, lambda each: each[seen] / scale, space)


def scaled(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """MountainCar's velocity is below 0.07, too little for a network to see."""
    return gymnasium.wrappers.RescaleObservation(env, np.float32(-1), np.float32(1))

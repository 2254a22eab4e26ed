"""What learners of all libraries learn from, and ours.

Networks, batches, optimizers (Adam, without weight decay) and gradient steps are the same for all;
numbers are random, as nobody asks here whether anything is learned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from machin_fast import algorithms
from machin_fast.data import Replay, Trajectory
from machin_fast.model import for_spaces

Arrays = dict[str, NDArray[Any]]
Update = Callable[[], object]

LEARNING_RATE = 1e-4
DISCOUNT = 0.99
# Part of the way that targets follow in each update.
RATE = 0.005
LAMBDA = 0.95
# Largest norm of a gradient, on-policy.
NORM = 0.5
CLIP = 0.2
# Of Rainbow's distributions.
ATOMS, LOW, HIGH, STEPS = 51, -10.0, 10.0, 3
ALPHA, BETA = 0.6, 0.4
# Of TD3.
DELAY, NOISE, BOUND = 2, 0.2, 0.5
# Of SAC's temperature at first.
TEMPERATURE = 0.2
# Of TRPO.
DIVERGENCE, DAMPING, SEARCHES, ITERATIONS, CRITIC_STEPS = 0.01, 0.1, 10, 10, 10
ENVS = 8

DISCRETE = ("DQN", "DQNPer", "RAINBOW", "A2C", "PPO", "TRPO")
ON_POLICY = ("A2C", "PPO", "TRPO")
PRIORITIZED = ("DQNPer", "RAINBOW")


@dataclass(frozen=True)
class Task:
    """One algorithm on networks of one size.

    Attributes:
        algorithm: Name of our class.
        hidden: Width of the two hidden layers.
        rows: Stored transitions; on-policy those of an update.
        batch: Rows of a gradient step.
        epochs: On-policy, passes over all rows.
        learning_rate: Of all optimizers.
        norm: Largest norm of a gradient, on-policy.
        optimizer: Class of all optimizers.
    """

    algorithm: str
    hidden: int = 256
    rows: int = 100_000
    batch: int = 256
    epochs: int = 1
    learning_rate: float = LEARNING_RATE
    norm: float = NORM
    optimizer: Any = torch.optim.Adam

    @property
    def discrete(self) -> bool:
        return self.algorithm in DISCRETE

    @property
    def on_policy(self) -> bool:
        return self.algorithm in ON_POLICY

    @property
    def prioritized(self) -> bool:
        return self.algorithm in PRIORITIZED

    @property
    def width(self) -> int:
        """Of a state: CartPole's, or HalfCheetah's."""
        return 4 if self.discrete else 17

    @property
    def actions(self) -> int:
        """Choices, or entries of an action in [-1, 1]."""
        return 2 if self.discrete else 6

    @property
    def sizes(self) -> tuple[int, int]:
        return (self.hidden, self.hidden)

    @property
    def steps(self) -> int:
        """Gradient steps of an update; both networks' on-policy."""
        return self.epochs * self.rows // self.batch if self.on_policy else 1

    def spaces(self) -> tuple[gymnasium.spaces.Box, gymnasium.Space[Any]]:
        states = gymnasium.spaces.Box(-np.inf, np.inf, (self.width,), np.float32)
        if self.discrete:
            return states, gymnasium.spaces.Discrete(self.actions)
        return states, gymnasium.spaces.Box(-1, 1, (self.actions,), np.float32)


def experience(task: Task) -> Arrays:
    """Transitions, ``[rows, ...]``; those of ``ENVS`` environments in turn, 1 in 200 terminated."""
    return _experience(task.width, task.actions, task.discrete, task.rows)


@lru_cache(maxsize=4)
def _experience(width: int, actions: int, discrete: bool, rows: int) -> Arrays:
    random = np.random.default_rng(0)
    state = random.standard_normal((rows + ENVS, width), dtype=np.float32)
    if discrete:
        action: NDArray[Any] = random.integers(actions, size=rows)
    else:
        action = random.uniform(-0.9, 0.9, (rows, actions)).astype(np.float32)
    return {
        "state": state[:-ENVS],
        "action": action,
        "reward": random.standard_normal(rows, dtype=np.float32),
        "next_state": state[ENVS:],
        "terminated": random.random(rows) < 0.005,
    }


def tensors(task: Task) -> dict[str, Tensor]:
    """The experience; numbers in torch's default dtype."""
    found = {name: torch.from_numpy(x) for name, x in experience(task).items()}
    dtype = torch.get_default_dtype()
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in found.items()}


def networks(task: Task) -> tuple[nn.Module, ...]:
    """In the order in which our constructors take them; the same at each call."""
    torch.manual_seed(0)
    kind = {"DQNPer": "dqn_per"}.get(task.algorithm, task.algorithm.lower())
    return for_spaces(*task.spaces(), kind, hidden=task.sizes, atoms=ATOMS)


def episodes(task: Task) -> list[list[dict[str, Any]]]:
    """The experience of each environment as Machin's users store it."""
    rows = tensors(task)
    if task.discrete:
        rows["action"] = rows["action"].unsqueeze(1)
    rewards, terminals = rows["reward"].tolist(), rows["terminated"].tolist()
    return [
        [
            {
                **{
                    name: {name.removeprefix("next_"): rows[name][i : i + 1].clone()}
                    for name in ("state", "action", "next_state")
                },
                "reward": rewards[i],
                "terminal": terminals[i],
            }
            for i in range(env, task.rows, ENVS)
        ]
        for env in range(ENVS)
    ]


def rollout(task: Task) -> Trajectory:
    """The experience as our collectors return it."""
    shaped = {name: x.view(-1, ENVS, *x.shape[1:]) for name, x in tensors(task).items()}
    shaped["truncated"] = torch.zeros_like(shaped["terminated"])
    return Trajectory.from_rollout(shaped)


# -- ours ---------------------------------------------------------------------------------------


def make(task: Task, **options: Any) -> Any:
    """Our algorithm."""
    name = task.algorithm
    options["batch_size"] = task.batch
    options["discount"] = DISCOUNT
    for rate in ("learning_rate",) if name in ("DQN", "DQNPer", "RAINBOW") else _TWO_RATES:
        options[rate] = task.learning_rate
    criterion = [] if name == "RAINBOW" else [nn.MSELoss()]
    if not task.on_policy:
        options["update_rate"] = RATE
    if name == "RAINBOW":
        options.update(value_min=LOW, value_max=HIGH, reward_future_steps=STEPS)
    elif name == "TD3":
        options.update(policy_delay=DELAY, target_noise=(NOISE, BOUND), action_range=(-1.0, 1.0))
    elif name == "SAC":
        options.update(target_entropy="auto", initial_entropy_alpha=TEMPERATURE)
        options.update(alpha_learning_rate=task.learning_rate)
    elif task.on_policy:
        options.update(gae_lambda=LAMBDA, gradient_max=task.norm)
        if name == "TRPO":
            options.update(
                kl_max_delta=DIVERGENCE, damping=DAMPING, line_search_backtracks=SEARCHES,
                conjugate_iterations=ITERATIONS, critic_update_times=CRITIC_STEPS,
                gradient_max=float("inf"),
            )  # fmt: skip
        else:
            options["epochs"] = task.epochs
    return getattr(algorithms, name)(*networks(task), task.optimizer, *criterion, **options)


_TWO_RATES = ("actor_learning_rate", "critic_learning_rate")


def ours(task: Task, **options: Any) -> Update:
    """``store`` and ``update`` with tensors: a ``Replay``, or rollouts."""
    if task.on_policy:
        return _on_policy(task, make(task, **options))
    prioritized: dict[str, Any] = {}
    if task.prioritized:
        prioritized = {"priority": "step", "alpha": ALPHA, "beta": BETA}
    learner = make(task, replay_buffer=Replay(task.rows, **prioritized), **options)
    learner.store(rollout(task))
    return learner.update  # type: ignore[no-any-return]


def _on_policy(task: Task, learner: Any) -> Update:
    data = rollout(task)
    restore = restorer(task, learner.actor)

    def update() -> object:
        restore()
        learner.store(data)
        return learner.update()

    return update


def our_buffer(task: Task) -> Update:
    """Machin's way: episodes of dicts, in a ``Buffer``."""
    if not task.on_policy:
        task = replace(task, rows=min(task.rows, DICTS))
        learner = make(task, replay_size=task.rows)
        for episode in episodes(task):
            learner.store_episode(episode)
        return learner.update  # type: ignore[no-any-return]
    return storing(task, make(task))


# As many as Machin's own buffers get, where each takes kilobytes and 70 us to add.
DICTS = 8192


def storing(task: Task, learner: Any) -> Update:
    """On-policy with Machin's interface."""
    stored = episodes(task)
    restore = restorer(task, learner.actor)

    def update() -> object:
        restore()
        for episode in stored:
            learner.store_episode([dict(step) for step in episode])
        return learner.update()

    return update


def restorer(task: Task, actor: nn.Module) -> Update:
    """TRPO's actor begins each update as it was: after a hundred steps on the same rows it would
    be sure of itself, and searches of another length."""
    if task.algorithm != "TRPO":
        return lambda: None
    parameters = list(actor.parameters())
    kept = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def restore() -> None:
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)

    return restore


# -- proofs -------------------------------------------------------------------------------------


def prove_moves(update: Update, parameters: list[Tensor]) -> None:
    """An update changes the networks, to numbers.

    Raises:
        AssertionError: It does not.
    """
    before = [copy.deepcopy(each.detach()) for each in parameters]
    update()
    for parameter in parameters:
        assert torch.isfinite(parameter).all(), "a parameter is not finite"
    pairs = zip(before, parameters, strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs), "no parameter was changed"

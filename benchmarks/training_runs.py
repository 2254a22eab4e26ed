"""One whole training of CartPole by one library, in a process of its own.

``python -m benchmarks.training_runs '{"who": "ours", "algorithm": "PPO", ...}'`` prints what came
of it as JSON. Networks, batches, gradient steps and settings (those of Stable-Baselines3's zoo,
without its schedules) are the same for all; each collects in its own manner, from Gymnasium's
CartPole.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.distributions import Categorical

from benchmarks import library_learners, machin_learners, plain_learners
from benchmarks.learners import CLIP, NORM, Task
from benchmarks.peers import PeerError, load
from machin_fast.algorithms import DQN, PPO
from machin_fast.collect import Collector
from machin_fast.data import Replay
from machin_fast.model import for_spaces

ENV = "CartPole-v1"
# Environment steps between two phases of learning, and episodes of a score.
CHUNK, EPISODES = 256, 100
# Mean returns of the last episodes of training, exploration included: with its share of random
# actions no library's DQN gets to 475.
GOALS = {"PPO": 475.0, "DQN": 400.0}

PPO_ENVS, PPO_EPOCHS, PPO_BATCH, PPO_HIDDEN, PPO_RATE = 8, 20, 256, 64, 1e-3
PPO_DISCOUNT, PPO_LAMBDA = 0.98, 0.8

DQN_UPDATES, DQN_BATCH, DQN_HIDDEN, DQN_RATE, DQN_NORM = 128, 64, 256, 2.3e-3, 10.0
DQN_DISCOUNT, DQN_ROWS, DQN_START = 0.99, 100_000, 1000
# Random actions: from all to this share, over so many steps.
DQN_EPSILON, DQN_EXPLORED = 0.04, 8000


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        who: A key of ``TRAINERS``.
        algorithm: "PPO" or "DQN".
        seed: Of environments and networks.
        warm_up: Steps before the clock starts.
        steps: To be timed, at most.
        to_goal: Whether to stop where the goal is reached.
    """

    who: str
    algorithm: str
    seed: int = 0
    warm_up: int = 0
    steps: int = 10_000
    to_goal: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it: timed steps and seconds, the last score, and whether it was the goal."""

    steps: int
    seconds: float
    score: float
    reached: bool


class Done(Exception):  # noqa: N818 (no error)
    """Enough was trained."""


class Watch:
    """Told of each chunk of steps, and of the learning after it; raises ``Done``."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.returns: deque[float] = deque(maxlen=EPISODES)
        self.taken = self.since = 0
        self.began = time.perf_counter() if job.warm_up == 0 else None

    def chunk(self, taken: int, returns: Iterable[float]) -> None:
        """After ``taken`` steps in all, and returns of episodes that ended since the last call."""
        self.taken = taken
        self.returns.extend(returns)
        if self.began is None:
            if taken >= self.job.warm_up:
                self.since, self.began = taken, time.perf_counter()
        elif taken - self.since >= self.job.steps or (self.job.to_goal and self.reached):
            raise Done

    @property
    def score(self) -> float:
        return float(np.mean(self.returns)) if len(self.returns) == EPISODES else 0.0

    @property
    def reached(self) -> bool:
        return self.score >= GOALS[self.job.algorithm]

    def outcome(self) -> Outcome:
        assert self.began is not None
        seconds = time.perf_counter() - self.began
        return Outcome(self.taken - self.since, seconds, self.score, self.reached)


Trainer = Callable[[Job, Watch], None]


def epsilon(taken: int) -> float:
    return max(DQN_EPSILON, 1 - (1 - DQN_EPSILON) * taken / DQN_EXPLORED)


def task_of(job: Job) -> Task:
    """As libraries' networks are made of, which here as there see 4 numbers and choose of 2."""
    if job.algorithm == "PPO":
        return Task("PPO", PPO_HIDDEN, CHUNK, PPO_BATCH, PPO_EPOCHS, PPO_RATE)
    return Task("DQN", DQN_HIDDEN, DQN_ROWS, DQN_BATCH, learning_rate=DQN_RATE)


# -- ours ---------------------------------------------------------------------------------------


def ours(job: Job, watch: Watch, *, lazy: bool = False) -> None:
    count = PPO_ENVS if job.algorithm == "PPO" else 1
    make: Any = lambda: gymnasium.make(ENV)  # noqa: E731
    envs = SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.SAME_STEP)
    spaces = envs.single_observation_space, envs.single_action_space
    learner: Any
    if job.algorithm == "PPO":
        learner = PPO(
            *for_spaces(*spaces, "ppo", hidden=(PPO_HIDDEN, PPO_HIDDEN)),
            torch.optim.Adam, nn.MSELoss(),
            batch_size=PPO_BATCH, epochs=PPO_EPOCHS, surrogate_loss_clip=CLIP, gradient_max=NORM,
            actor_learning_rate=PPO_RATE, critic_learning_rate=PPO_RATE,
            discount=PPO_DISCOUNT, gae_lambda=PPO_LAMBDA, lazy=lazy,
        )  # fmt: skip
    else:
        learner = DQN(
            *for_spaces(*spaces, "dqn", hidden=(DQN_HIDDEN, DQN_HIDDEN)),
            torch.optim.Adam, nn.SmoothL1Loss(), mode="fixed_target",
            batch_size=DQN_BATCH, learning_rate=DQN_RATE, discount=DQN_DISCOUNT,
            update_rate=None, update_steps=DQN_UPDATES, gradient_max=DQN_NORM,
            replay_buffer=Replay(DQN_ROWS), lazy=lazy,
        )  # fmt: skip
    taken = 0

    def act(state: Mapping[str, Tensor]) -> Any:
        nonlocal taken
        taken += count
        if job.algorithm == "PPO":
            return learner.act(state)
        learner.epsilon = epsilon(taken)
        return learner.act_discrete_with_noise(state, decay_epsilon=False)

    collector = Collector(envs, act, seed=job.seed)
    while True:
        learner.store(collector.steps(CHUNK // count))
        if job.algorithm == "PPO":
            learner.update()
        elif taken > DQN_START:
            for _ in range(DQN_UPDATES):
                learner.update()
        watch.chunk(taken, collector.episode_returns)


def ours_lazy(job: Job, watch: Watch) -> None:
    ours(job, watch, lazy=True)


# -- plain torch --------------------------------------------------------------------------------


def plain(job: Job, watch: Watch, *, fused: bool = False) -> None:
    (_plain_ppo if job.algorithm == "PPO" else _plain_dqn)(job, watch, fused)


def plain_fused(job: Job, watch: Watch) -> None:
    plain(job, watch, fused=True)


def _adam(parameters: Iterable[Tensor], rate: float, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=rate, fused=fused or None)


def _plain_ppo(job: Job, watch: Watch, fused: bool) -> None:
    make: Any = lambda: gymnasium.make(ENV)  # noqa: E731
    envs = SyncVectorEnv([make] * PPO_ENVS, autoreset_mode=AutoresetMode.SAME_STEP)
    actor = plain_learners.mlp(4, 2, PPO_HIDDEN, nn.Tanh)
    critic = plain_learners.mlp(4, 1, PPO_HIDDEN, nn.Tanh)
    for net, gain in ((actor, 0.01), (critic, 1.0)):
        linears = [layer for layer in net if isinstance(layer, nn.Linear)]
        for layer in linears:
            nn.init.orthogonal_(layer.weight, gain if layer is linears[-1] else 2**0.5)
            nn.init.zeros_(layer.bias)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = _adam(parameters, PPO_RATE, fused)
    steps = CHUNK // PPO_ENVS
    states = torch.zeros(steps, PPO_ENVS, 4)
    actions = torch.zeros(steps, PPO_ENVS, dtype=torch.int64)
    log_probs, rewards, values, ends = torch.zeros(4, steps, PPO_ENVS)
    state, _ = envs.reset(seed=job.seed)
    episode = np.zeros(PPO_ENVS)
    for chunk in itertools.count(1):
        returns: list[float] = []
        for t in range(steps):
            states[t] = torch.from_numpy(state)
            with torch.no_grad():
                policy = Categorical(logits=actor(states[t]))
                actions[t] = policy.sample()
                log_probs[t] = policy.log_prob(actions[t])
                values[t] = critic(states[t]).squeeze(1)
            state, reward, terminated, truncated, _ = envs.step(actions[t].numpy())
            ended = terminated | truncated
            rewards[t], ends[t] = torch.from_numpy(reward), torch.from_numpy(ended)
            episode += reward
            returns += episode[ended].tolist()
            episode[ended] = 0
        with torch.no_grad():
            following = critic(torch.from_numpy(state)).squeeze(1)
        advantages = torch.zeros_like(rewards)
        trace: Tensor | float = 0.0
        for t in reversed(range(steps)):
            going = 1 - ends[t]
            delta = rewards[t] + PPO_DISCOUNT * following * going - values[t]
            advantages[t] = trace = delta + PPO_DISCOUNT * PPO_LAMBDA * going * trace
            following = values[t]
        rows = [states.flatten(0, 1)]
        rows += [x.flatten() for x in (actions, log_probs, advantages, advantages + values)]
        order = np.arange(CHUNK)
        for _ in range(PPO_EPOCHS):
            np.random.shuffle(order)
            for start in range(0, CHUNK, PPO_BATCH):
                index = order[start : start + PPO_BATCH]
                seen, taken, old, advantage, value_target = (x[index] for x in rows)
                ratio = (Categorical(logits=actor(seen)).log_prob(taken) - old).exp()
                advantage = plain_learners.normalized(advantage)
                near = ratio.clamp(1 - CLIP, 1 + CLIP)
                policy_loss = torch.max(-advantage * ratio, -advantage * near).mean()
                value_loss = 0.5 * F.mse_loss(critic(seen).squeeze(1), value_target)
                optimizer.zero_grad()
                (policy_loss + value_loss).backward()
                nn.utils.clip_grad_norm_(parameters, NORM)
                optimizer.step()
        watch.chunk(chunk * CHUNK, returns)


def _plain_dqn(job: Job, watch: Watch, fused: bool) -> None:
    env = gymnasium.make(ENV)
    q = plain_learners.mlp(4, 2, DQN_HIDDEN)
    target = copy.deepcopy(q)
    optimizer = _adam(q.parameters(), DQN_RATE, fused)
    states, next_states = torch.zeros(2, DQN_ROWS, 4)
    actions = torch.zeros(DQN_ROWS, 1, dtype=torch.int64)
    rewards, ends = torch.zeros(2, DQN_ROWS)
    state, _ = env.reset(seed=job.seed)
    episode, returns, taken = 0.0, list[float](), 0
    while True:
        for _ in range(CHUNK):
            row = taken % DQN_ROWS
            states[row] = torch.from_numpy(state)
            if random.random() < epsilon(taken):
                action = random.randrange(2)
            else:
                with torch.no_grad():
                    action = int(q(states[row]).argmax())
            state, reward, terminated, truncated, _ = env.step(action)
            actions[row], rewards[row], ends[row] = action, float(reward), terminated
            next_states[row] = torch.from_numpy(state)
            taken += 1
            episode += float(reward)
            if terminated or truncated:
                returns.append(episode)
                episode = 0.0
                state, _ = env.reset()
        if taken > DQN_START:
            for _ in range(DQN_UPDATES):
                index = torch.randint(min(taken, DQN_ROWS), (DQN_BATCH,))
                with torch.no_grad():
                    best = target(next_states[index]).max(1).values
                    goal = rewards[index] + DQN_DISCOUNT * best * (1 - ends[index])
                value = q(states[index]).gather(1, actions[index]).squeeze(1)
                optimizer.zero_grad()
                F.smooth_l1_loss(value, goal).backward()
                nn.utils.clip_grad_norm_(q.parameters(), DQN_NORM)
                optimizer.step()
            target.load_state_dict(q.state_dict())
        watch.chunk(taken, returns)
        returns = []


# -- stable-baselines3 --------------------------------------------------------------------------


def stable_baselines3(job: Job, watch: Watch) -> None:
    sb3 = load("stable_baselines3")
    callbacks = load("stable_baselines3.common.callbacks")
    make_vec_env = load("stable_baselines3.common.env_util").make_vec_env

    class Told(callbacks.BaseCallback):  # type: ignore[misc, name-defined]
        """At the start of each rollout the learning after the last one is over."""

        seen = 0

        def _on_rollout_start(self) -> None:
            infos = self.model.ep_info_buffer
            watch.returns = deque((info["r"] for info in infos), maxlen=EPISODES)
            if self.num_timesteps:
                watch.chunk(self.num_timesteps, ())

        def _on_step(self) -> bool:
            return True

    if job.algorithm == "PPO":
        model = sb3.PPO(
            "MlpPolicy", make_vec_env(ENV, PPO_ENVS, seed=job.seed),
            learning_rate=PPO_RATE, n_steps=CHUNK // PPO_ENVS, batch_size=PPO_BATCH,
            n_epochs=PPO_EPOCHS, gamma=PPO_DISCOUNT, gae_lambda=PPO_LAMBDA, clip_range=CLIP,
            max_grad_norm=NORM, seed=job.seed, device="cpu",
        )  # fmt: skip
    else:
        model = sb3.DQN(
            "MlpPolicy", make_vec_env(ENV, 1, seed=job.seed),
            learning_rate=DQN_RATE, buffer_size=DQN_ROWS, learning_starts=DQN_START,
            batch_size=DQN_BATCH, gamma=DQN_DISCOUNT, train_freq=CHUNK, gradient_steps=DQN_UPDATES,
            target_update_interval=CHUNK, exploration_fraction=DQN_EXPLORED / 1_000_000,
            exploration_final_eps=DQN_EPSILON, max_grad_norm=DQN_NORM, seed=job.seed, device="cpu",
            policy_kwargs={"net_arch": [DQN_HIDDEN, DQN_HIDDEN]},
        )  # fmt: skip
    model.learn(1_000_000, callback=Told(), log_interval=None)


# -- tianshou -----------------------------------------------------------------------------------


def tianshou(job: Job, watch: Watch) -> None:
    data = load("tianshou.data")
    count = PPO_ENVS if job.algorithm == "PPO" else 1
    make: Any = lambda: gymnasium.make(ENV)  # noqa: E731
    envs = load("tianshou.env").DummyVectorEnv([make] * count)
    envs.seed(job.seed)
    task = task_of(job)
    optimizer = load("tianshou.algorithm.optim").AdamOptimizerFactory(lr=task.learning_rate)
    if job.algorithm == "PPO":
        policy, critic = library_learners.tianshou_actor_critic(task)
        algorithm = load("tianshou.algorithm").PPO(
            policy=policy, critic=critic, optim=optimizer, eps_clip=CLIP, ent_coef=0.0,
            max_grad_norm=NORM, gamma=PPO_DISCOUNT, gae_lambda=PPO_LAMBDA,
        )  # fmt: skip
    else:
        policy = library_learners.tianshou_q_policy(task)
        algorithm = load("tianshou.algorithm").DQN(
            policy=policy, optim=optimizer, gamma=DQN_DISCOUNT, target_update_freq=DQN_UPDATES,
            is_double=False, huber_loss_delta=1.0,
        )  # fmt: skip
    policy.is_within_training_step = True
    rows = CHUNK if job.algorithm == "PPO" else DQN_ROWS
    buffer = data.VectorReplayBuffer(rows, count)
    collector = data.Collector(policy, envs, buffer, exploration_noise=job.algorithm == "DQN")
    collector.reset()
    for chunk in itertools.count(1):
        taken = chunk * CHUNK
        if job.algorithm == "DQN":
            policy.set_eps_training(epsilon(taken - CHUNK))
        found = collector.collect(n_step=CHUNK)
        if job.algorithm == "PPO":
            algorithm.update(buffer=buffer, batch_size=PPO_BATCH, repeat=PPO_EPOCHS)
            collector.reset_buffer(keep_statistics=True)
        elif taken > DQN_START:
            for _ in range(DQN_UPDATES):
                algorithm.update(buffer=buffer, sample_size=DQN_BATCH)
        watch.chunk(taken, found.returns)


# -- Machin -------------------------------------------------------------------------------------


def machin(job: Job, watch: Watch) -> None:
    """One environment, whose episodes are stored when they have ended.

    Its DQN of this mode moves the target a little in each update, and cannot copy it.
    """
    task = task_of(job)
    if job.algorithm == "PPO":
        learner = machin_learners.make(task)
        learner.discount, learner.gae_lambda = PPO_DISCOUNT, PPO_LAMBDA
    else:
        learner = machin_learners.make(
            task, mode="fixed_target", replay_size=DQN_ROWS, gradient_max=DQN_NORM
        )  # fmt: skip
        learner.criterion = nn.SmoothL1Loss()
    env = gymnasium.make(ENV)
    observation, _ = env.reset(seed=job.seed)
    state = torch.from_numpy(observation).unsqueeze(0)
    episode: list[dict[str, Any]] = []
    returns, taken, stored, learned = list[float](), 0, 0, 0
    while True:
        with torch.no_grad():
            if job.algorithm == "PPO":
                action = learner.act({"state": state})[0]
            else:
                learner.epsilon = epsilon(taken)
                action = learner.act_discrete_with_noise({"state": state}, decay_epsilon=False)
        observation, reward, terminated, truncated, _ = env.step(int(action))
        following = torch.from_numpy(observation).unsqueeze(0)
        episode.append({
            "state": {"state": state}, "action": {"action": action},
            "next_state": {"state": following}, "reward": float(reward), "terminal": terminated,
        })  # fmt: skip
        state = following
        taken += 1
        if terminated or truncated:
            returns.append(float(len(episode)))
            learner.store_episode(episode)
            stored += len(episode)
            episode = []
            observation, _ = env.reset()
            state = torch.from_numpy(observation).unsqueeze(0)
        if job.algorithm == "PPO" and stored >= CHUNK:
            learner.update()
            stored = 0
        if job.algorithm == "DQN" and taken > DQN_START and taken - learned >= CHUNK:
            learned = taken
            for _ in range(DQN_UPDATES):
                learner.update()
        if taken % CHUNK == 0:
            watch.chunk(taken, returns)
            returns = []


TRAINERS: dict[str, Trainer] = {
    "ours": ours,
    "ours lazy": ours_lazy,
    "plain-torch": plain,
    "plain-torch fused": plain_fused,
    "stable-baselines3": stable_baselines3,
    "tianshou": tianshou,
    "machin": machin,
}


def run(job: Job) -> Outcome:
    """Trains.

    Raises:
        PeerError: The library is not installed, or does not load.
    """
    torch.manual_seed(job.seed)
    random.seed(job.seed)
    np.random.seed(job.seed)
    # Not timed: the first step of an optimizer in a process imports two seconds of torch.
    torch.optim.Adam([nn.Parameter(torch.zeros(1))]).step()
    watch = Watch(job)
    with contextlib.suppress(Done):
        TRAINERS[job.who](job, watch)
    return watch.outcome()


def main() -> int:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked.pop("threads", 1))
    try:
        print(json.dumps(asdict(run(Job(**asked)))))
    except PeerError as error:
        print(json.dumps({"missing": str(error)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

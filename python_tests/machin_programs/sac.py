"""SAC on Pendulum, with a learned temperature."""

import os
import random
import sys

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import SAC
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger
from torch.distributions import Normal

observe_dim = 3
action_dim = 1
action_range = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = 200
solved_reward = -400
solved_repeat = 5
seed = int(os.environ.get("SEED", "0"))


def atanh(x):
    return 0.5 * t.log((1 + x) / (1 - x))


class Actor(nn.Module):
    def __init__(self, state_dim, action_dim, action_range):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.mu_head = nn.Linear(16, action_dim)
        self.sigma_head = nn.Linear(16, action_dim)
        self.action_range = action_range

    def forward(self, state, action=None):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        dist = Normal(self.mu_head(a), nn.functional.softplus(self.sigma_head(a)) + 1e-4)
        raw = dist.rsample() if action is None else atanh(action / self.action_range)
        squashed = t.tanh(raw)
        # what squashing does to densities
        log_prob = dist.log_prob(raw) - t.log(self.action_range * (1 - squashed**2) + 1e-6)
        entropy = dist.entropy().mean(1)
        return squashed * self.action_range, log_prob.sum(1), entropy


class Critic(nn.Module):
    def __init__(self, state_dim, action_dim):
        super().__init__()
        self.fc1 = nn.Linear(state_dim + action_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, state, action):
        q = t.relu(self.fc1(t.cat([state, action], 1)))
        q = t.relu(self.fc2(q))
        return self.fc3(q)


if __name__ == "__main__":
    t.manual_seed(seed)
    random.seed(seed)
    env = gym.make("Pendulum-v1", max_episode_steps=max_steps)

    critics = [Critic(observe_dim, action_dim) for _ in range(4)]
    sac = SAC(
        Actor(observe_dim, action_dim, action_range),
        *critics,
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        update_rate=0.01,
        actor_learning_rate=1e-3,
        critic_learning_rate=2e-3,
        replay_size=50000,
    )
    # may be given to the constructor as well
    sac.target_entropy = -action_dim

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    smoothed_total_reward = 0
    value_loss = None

    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        observation, _ = env.reset(seed=seed * 10000 + episode.get())
        state = t.tensor(observation, dtype=t.float32).view(1, observe_dim)
        tmp_observations = []

        while step < max_steps:
            step.count()
            with t.no_grad():
                old_state = state
                action = sac.act({"state": old_state})[0]
                observation, reward, *_ = env.step(action.numpy()[0])
                state = t.tensor(observation, dtype=t.float32).view(1, observe_dim)
                total_reward += reward
                tmp_observations.append(
                    {
                        "state": {"state": old_state},
                        "action": {"action": action},
                        "next_state": {"state": state},
                        "reward": reward,
                        "terminal": step == max_steps,
                    }
                )

        sac.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                policy_value, value_loss = sac.update()

        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={value_loss} "
            f"alpha={sac.entropy_alpha.item():.4f}"
        )

        # the smoothed reward begins at 0, above the goal
        if episode > 20 and smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= solved_repeat:
                logger.info("Environment solved!")
                sys.exit(0)
        else:
            reward_fulfilled.reset()

"""PPO on CartPole, one update per episode. GAE_LAMBDA is 0, 0.5 or 1."""

import os
import random
import sys

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import PPO
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger
from torch.distributions import Categorical

observe_dim = 4
action_num = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
max_steps = 200
solved_reward = 150
solved_repeat = 5
seed = int(os.environ.get("SEED", "0"))


class Actor(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, action_num)

    def forward(self, state, action=None):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        probs = t.softmax(self.fc3(a), dim=1)
        dist = Categorical(probs=probs)
        act = action if action is not None else dist.sample()
        act_entropy = dist.entropy()
        act_log_prob = dist.log_prob(act.flatten())
        return act, act_log_prob, act_entropy


class Critic(nn.Module):
    def __init__(self, state_dim):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, state):
        v = t.relu(self.fc1(state))
        v = t.relu(self.fc2(v))
        return self.fc3(v)


if __name__ == "__main__":
    t.manual_seed(seed)
    random.seed(seed)
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)

    actor = Actor(observe_dim, action_num)
    critic = Critic(observe_dim)
    ppo = PPO(
        actor,
        critic,
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        gae_lambda=float(os.environ.get("GAE_LAMBDA", "0.5")),
    )

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    smoothed_total_reward = 0

    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        terminal = False
        observation, _ = env.reset(seed=seed * 10000 + episode.get())
        state = t.tensor(observation, dtype=t.float32).view(1, observe_dim)
        tmp_observations = []

        while not terminal and step < max_steps:
            step.count()
            with t.no_grad():
                old_state = state
                # the first of what the actor returns
                action = ppo.act({"state": old_state})[0]
                observation, reward, terminated, truncated, _ = env.step(action.item())
                terminal = terminated or truncated
                state = t.tensor(observation, dtype=t.float32).view(1, observe_dim)
                total_reward += reward
                tmp_observations.append(
                    {
                        "state": {"state": old_state},
                        "action": {"action": action},
                        "next_state": {"state": state},
                        "reward": reward,
                        "terminal": terminal or step == max_steps,
                    }
                )

        ppo.store_episode(tmp_observations)
        policy_value, value_loss = ppo.update()

        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} "
            f"policy_loss={-policy_value:.4f} value_loss={value_loss:.4f}"
        )

        if smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= solved_repeat:
                logger.info("Environment solved!")
                sys.exit(0)
        else:
            reward_fulfilled.reset()

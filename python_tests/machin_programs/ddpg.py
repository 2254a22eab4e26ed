"""DDPG on Pendulum, with normal noise in every second episode."""

import os
import random
import sys

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DDPG
from machin.utils.helper_classes import Counter, Switch
from machin.utils.logging import default_logger as logger

observe_dim = 3
action_dim = 1
action_range = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = 200
noise_param = (0, 0.2)
noise_mode = "normal"
solved_reward = -400
solved_repeat = 5
seed = int(os.environ.get("SEED", "0"))


class Actor(nn.Module):
    def __init__(self, state_dim, action_dim, action_range):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, action_dim)
        self.action_range = action_range

    def forward(self, state):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        return t.tanh(self.fc3(a)) * self.action_range


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

    actor = Actor(observe_dim, action_dim, action_range)
    actor_t = Actor(observe_dim, action_dim, action_range)
    critic = Critic(observe_dim, action_dim)
    critic_t = Critic(observe_dim, action_dim)
    ddpg = DDPG(
        actor,
        actor_t,
        critic,
        critic_t,
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        update_rate=0.005,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        replay_size=100000,
    )

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    noisy = Switch()
    smoothed_total_reward = 0
    value_loss = None

    while episode < max_episodes:
        episode.count()
        step.reset()
        noisy.flip()
        total_reward = 0
        observation, _ = env.reset(seed=seed * 10000 + episode.get())
        state = t.tensor(observation, dtype=t.float32).view(1, observe_dim)
        tmp_observations = []

        while step < max_steps:
            step.count()
            with t.no_grad():
                old_state = state
                if noisy.get():
                    action = ddpg.act_with_noise(
                        {"state": old_state}, noise_param=noise_param, mode=noise_mode
                    )
                else:
                    action = ddpg.act({"state": old_state})
                observation, reward, *_ = env.step(action.numpy().reshape(action_dim))
                state = t.tensor(observation, dtype=t.float32).view(1, observe_dim)
                total_reward += float(reward)
                tmp_observations.append(
                    {
                        "state": {"state": old_state},
                        "action": {"action": action},
                        "next_state": {"state": state},
                        "reward": float(reward),
                        "terminal": step == max_steps,
                    }
                )

        ddpg.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                _, value_loss = ddpg.update()

        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={value_loss}"
        )

        # the smoothed reward begins at 0, above the goal
        if episode > 20 and smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= solved_repeat:
                logger.info("Environment solved!")
                sys.exit(0)
        else:
            reward_fulfilled.reset()

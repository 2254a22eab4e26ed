"""Hysteretic DDPG on Pendulum with Ornstein-Uhlenbeck noise."""

import os

import gymnasium as gym
import numpy as np
import torch as t
import torch.nn as nn
from machin.frame.algorithms.hddpg import HDDPG
from machin.utils.helper_classes import Counter, Timer
from machin.utils.logging import default_logger as logger

observe_dim = 3
action_dim = 1
action_range = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = int(os.environ.get("STEPS", "200"))


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(observe_dim, 16),
            nn.ReLU(),
            nn.Linear(16, 16),
            nn.ReLU(),
            nn.Linear(16, action_dim),
            nn.Tanh(),
        )

    def forward(self, state):
        return self.net(state) * action_range


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(observe_dim + action_dim, 16),
            nn.ReLU(),
            nn.Linear(16, 16),
            nn.ReLU(),
            nn.Linear(16, 1),
        )

    def forward(self, state, action):
        return self.net(t.cat([state, action], dim=1))


if __name__ == "__main__":
    env = gym.make("Pendulum-v1", max_episode_steps=max_steps)
    hddpg = HDDPG(
        Actor(),
        Actor(),
        Critic(),
        Critic(),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        q_increase_rate=1.0,
        q_decrease_rate=0.5,
        replay_device="cpu",
    )
    episode, step = Counter(), Counter()
    timer = Timer()
    smoothed_total_reward = 0
    value_loss = None
    while episode < max_episodes:
        episode.count()
        step.reset()
        timer.begin()
        total_reward = 0
        state = t.tensor(env.reset()[0], dtype=t.float32).unsqueeze(0)
        tmp_observations = []
        while not step >= max_steps:
            step.count()
            old_state = state
            action = hddpg.act_with_noise(
                {"state": old_state}, noise_param={"mu": 0, "sigma": 0.3}, mode="ou"
            ).clamp(-action_range, action_range)
            state, reward, _, _, _ = env.step(action.numpy().astype(np.float32).flatten())
            state = t.tensor(state, dtype=t.float32).unsqueeze(0)
            total_reward += reward
            tmp_observations.append(
                {
                    "state": {"state": old_state},
                    "action": {"action": action},
                    "next_state": {"state": state},
                    "reward": t.tensor([[reward]], dtype=t.float32),
                    "terminal": step == max_steps,
                }
            )
        hddpg.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                policy_value, value_loss = hddpg.update()
        smoothed_total_reward = smoothed_total_reward * 0.8 + float(total_reward) * 0.2
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} "
            f"value_loss={value_loss}, took {timer.end():.2f} s"
        )

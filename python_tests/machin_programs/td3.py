"""TD3 on Pendulum: a subclass smooths target actions, the policy learns every second time."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import TD3
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

observe_dim = 3
action_dim = 1
action_range = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = int(os.environ.get("STEPS", "200"))


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


class SmoothTD3(TD3):
    @staticmethod
    def policy_noise_function(actions, *_):
        noise = (t.randn_like(actions) * 0.2).clamp(-0.5, 0.5)
        return (actions + noise).clamp(-action_range, action_range)


if __name__ == "__main__":
    env = gym.make("Pendulum-v1", max_episode_steps=max_steps)
    actor = Actor(observe_dim, action_dim, action_range)
    actor_t = Actor(observe_dim, action_dim, action_range)
    critic = Critic(observe_dim, action_dim)
    critic_t = Critic(observe_dim, action_dim)
    critic2 = Critic(observe_dim, action_dim)
    critic2_t = Critic(observe_dim, action_dim)
    td3 = SmoothTD3(
        actor,
        actor_t,
        critic,
        critic_t,
        critic2,
        critic2_t,
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
    )
    actor_optim, critic_optim, critic2_optim = td3.optimizers

    episode, step = Counter(), Counter()
    smoothed_total_reward = 0
    value_loss = None
    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        state = t.tensor(env.reset()[0], dtype=t.float32).view(1, observe_dim)
        tmp_observations = []
        while step < max_steps:
            step.count()
            with t.no_grad():
                old_state = state
                action = td3.act_with_noise(
                    {"state": old_state}, noise_param=[(0, 0.2)] * action_dim, mode="normal"
                )
                state, reward, *_ = env.step(action.view(-1).numpy())
                state = t.tensor(state, dtype=t.float32).view(1, observe_dim)
                total_reward += reward
                tmp_observations.append(
                    {
                        "state": {"state": old_state},
                        "action": {"action": action},
                        "next_state": {"state": state},
                        "reward": float(reward),
                        "terminal": step == max_steps,
                    }
                )
        td3.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for i in range(step.get()):
                later = i % 2 == 1
                _, value_loss = td3.update(update_policy=later, update_target=later)
        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={value_loss}"
        )

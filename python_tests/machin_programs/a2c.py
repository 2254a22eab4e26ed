"""A2C on CartPole; a negative weight encourages entropy."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import A2C
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger
from torch.distributions import Categorical
from torch.nn.functional import relu

observe_dim = 4
action_num = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
max_steps = 200
solved_reward = 150


class Actor(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, action_num)

    def forward(self, state, action=None):
        a = relu(self.fc2(relu(self.fc1(state))))
        dist = Categorical(logits=self.fc3(a))
        if action is None:
            action = dist.sample().unsqueeze(1)
        return action, dist.log_prob(action.flatten()), dist.entropy()


class Critic(nn.Module):
    def __init__(self, state_dim):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, state):
        return self.fc3(relu(self.fc2(relu(self.fc1(state)))))


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)
    a2c = A2C(
        Actor(observe_dim, action_num),
        Critic(observe_dim),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        entropy_weight=-1e-3,
        actor_update_times=3,
        critic_update_times=5,
    )
    a2c.gae_lambda = 0.9

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    smoothed_total_reward = 0
    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        terminal = False
        state = t.tensor(env.reset()[0], dtype=t.float32).view(1, observe_dim)
        tmp_observations = []
        while not terminal:
            step.count()
            old_state = state
            action, log_prob, *_ = a2c.act({"state": old_state})
            state, reward, done, cut, _ = env.step(action.item())
            terminal = done or cut
            state = t.tensor(state, dtype=t.float32).view(1, observe_dim)
            total_reward += reward
            tmp_observations.append(
                {
                    "state": {"state": old_state},
                    "action": {"action": action},
                    "next_state": {"state": state},
                    "reward": reward,
                    "terminal": terminal,
                }
            )
        a2c.store_episode(tmp_observations)
        # what the frame has written beside each step
        advantage = sum(each["gae"] for each in tmp_observations) / step.get()
        policy_value, value_loss = a2c.update()
        assert a2c.replay_buffer.size() == 0

        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} "
            f"advantage={advantage:.2f} policy_loss={-policy_value} value_loss={value_loss}"
        )
        if smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= 5:
                logger.info("Environment solved!")
                break
        else:
            reward_fulfilled.reset()

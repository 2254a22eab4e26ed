"""DQN on CartPole. MODE is double, fixed_target or vanilla."""

import os
import random
import sys

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DQN
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

observe_dim = 4
action_num = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = 200
solved_reward = 150
solved_repeat = 5
seed = int(os.environ.get("SEED", "0"))


class QNet(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, action_num)

    def forward(self, state):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        return self.fc3(a)


if __name__ == "__main__":
    t.manual_seed(seed)
    random.seed(seed)
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)

    q_net = QNet(observe_dim, action_num)
    q_net_t = QNet(observe_dim, action_num)
    dqn = DQN(
        q_net,
        q_net_t,
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        mode=os.environ.get("MODE", "double"),
    )

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    smoothed_total_reward = 0
    loss = None

    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        terminal = False
        observation, _ = env.reset(seed=seed * 10000 + episode.get())
        state = t.tensor(observation, dtype=t.float32).view(1, observe_dim)
        tmp_observations = []

        while not terminal:
            step.count()
            with t.no_grad():
                old_state = state
                action = dqn.act_discrete_with_noise({"state": old_state})
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

        dqn.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                loss = dqn.update()

        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={loss}")

        if smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= solved_repeat:
                logger.info("Environment solved!")
                sys.exit(0)
        else:
            reward_fulfilled.reset()

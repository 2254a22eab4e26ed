"""The first program of a beginner: DQN, a network whose input is called some_state."""

import os

import gymnasium as gym
import torch as t
from machin.frame.algorithms import DQN
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger
from torch import nn

env = gym.make("CartPole-v1", max_episode_steps=200)


class SomeModel(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, action_num)

    def forward(self, some_state):
        a = t.relu(self.fc1(some_state))
        a = t.relu(self.fc2(a))
        return self.fc3(a)


q_net = SomeModel(4, 2)
q_net_t = SomeModel(4, 2)
dqn = DQN(q_net, q_net_t, t.optim.Adam, nn.MSELoss(reduction="sum"))

episode = Counter()
while episode < int(os.environ.get("EPISODES", "1000")):
    episode.count()
    total_reward = 0
    terminal = False
    state = t.tensor(env.reset()[0]).view(1, 4)
    steps = []
    while not terminal:
        old_state = state
        action = dqn.act_discrete_with_noise({"some_state": old_state})
        new_state, reward, done, out_of_time, _ = env.step(int(action))
        terminal = done or out_of_time
        state = t.tensor(new_state).view(1, 4)
        total_reward += reward
        steps.append(
            {
                "state": {"some_state": old_state},
                "action": {"action": action},
                "next_state": {"some_state": state},
                "reward": reward,
                "terminal": terminal,
            }
        )
    dqn.store_episode(steps)
    # one update for each step, from the first episode on
    losses = [dqn.update() for _ in steps]
    logger.info(f"Episode {episode} reward={total_reward} value_loss={sum(losses) / len(losses)}")

"""RAINBOW: distributions of 10 atoms over [0, 40], sums of 20 rewards."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import RAINBOW
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

observe_dim = 4
action_num = 2
value_min, value_max, atom_num = 0, 40, 10
reward_future_steps = 20
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = 200
solved_reward = 150


class QNet(nn.Module):
    """Duelling, of distributions."""

    def __init__(self, state_dim, action_num, atom_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.value = nn.Linear(16, atom_num)
        self.advantage = nn.Linear(16, action_num * atom_num)
        self.action_num = action_num
        self.atom_num = atom_num

    def forward(self, state):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        advantage = self.advantage(a).view(-1, self.action_num, self.atom_num)
        value = self.value(a).view(-1, 1, self.atom_num)
        return t.softmax(value + advantage - advantage.mean(1, keepdim=True), dim=-1)


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)
    q_net = QNet(observe_dim, action_num, atom_num)
    q_net_t = QNet(observe_dim, action_num, atom_num)
    rainbow = RAINBOW(
        q_net,
        q_net_t,
        t.optim.Adam,
        value_min,
        value_max,
        reward_future_steps=reward_future_steps,
    )

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    smoothed_total_reward = 0
    loss = None
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
            # noise of the epsilon kind in training
            action = rainbow.act_discrete_with_noise({"state": old_state})
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
        rainbow.store_episode(tmp_observations)
        # the frame has written the sum of the next rewards beside each step
        assert abs(tmp_observations[-1]["value"] - 1) < 1e-6
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                loss = rainbow.update()
        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={loss}")
        if smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= 5:
                logger.info("Environment solved!")
                break
        else:
            reward_fulfilled.reset()

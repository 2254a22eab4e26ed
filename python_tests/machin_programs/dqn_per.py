"""DQN with prioritized replay; hard updates of the target network."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DQNPer
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

observe_dim = 4
action_num = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = 200
solved_reward = 150


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
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)
    # as many as the networks: a list of alike ones
    q_nets = [QNet(observe_dim, action_num) for _ in range(2)]
    dqn_per = DQNPer(
        *q_nets,
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        batch_size=64,
        update_rate=None,
        update_steps=20,
        epsilon_decay=0.999,
        gradient_max=10.0,
        replay_size=20000,
    )
    assert dqn_per.criterion.reduction == "none"

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
        while not terminal and step <= max_steps:
            step.count()
            with t.no_grad():
                old_state = state
                action = dqn_per.act_discrete_with_noise({"state": old_state})
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
                        "terminal": terminal or step == max_steps,
                    }
                )
        dqn_per.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                loss = dqn_per.update()
        smoothed_total_reward = smoothed_total_reward * 0.9 + total_reward * 0.1
        logger.info(f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={loss}")
        if smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= 5:
                logger.info("Environment solved!")
                break
        else:
            reward_fulfilled.reset()

"""DDPG with prioritized replay and discrete actions: probabilities are stored."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DDPGPer
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

observe_dim = 4
action_num = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = 200
solved_reward = 150


class ActorDiscrete(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, action_num)

    def forward(self, state):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        return t.softmax(self.fc3(a), dim=1)


class Critic(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim + action_num, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, state, action):
        q = t.relu(self.fc1(t.cat([state, action], 1)))
        q = t.relu(self.fc2(q))
        return self.fc3(q)


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)
    ddpg_per = DDPGPer(
        ActorDiscrete(observe_dim, action_num),
        ActorDiscrete(observe_dim, action_num),
        Critic(observe_dim, action_num),
        Critic(observe_dim, action_num),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
    )

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    smoothed_total_reward = 0
    value_loss = None
    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        terminal = False
        state = t.tensor(env.reset()[0], dtype=t.float32).view(1, observe_dim)
        tmp_observations = []
        while not terminal:
            step.count()
            with t.no_grad():
                old_state = state
                action, action_prob = ddpg_per.act_discrete_with_noise(
                    {"state": old_state}, choose_max_prob=0.9
                )
                state, reward, done, cut, _ = env.step(action.item())
                terminal = done or cut
                state = t.tensor(state, dtype=t.float32).view(1, observe_dim)
                total_reward += reward
                tmp_observations.append(
                    {
                        "state": {"state": old_state},
                        "action": {"action": action_prob},
                        "next_state": {"state": state},
                        "reward": reward,
                        "terminal": terminal or step == max_steps,
                    }
                )
        ddpg_per.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                _, value_loss = ddpg_per.update()
        smoothed_total_reward = smoothed_total_reward * 0.9 + total_reward * 0.1
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={value_loss}"
        )
        if smoothed_total_reward > solved_reward:
            reward_fulfilled.count()
            if reward_fulfilled >= 5:
                logger.info("Environment solved!")
                break
        else:
            reward_fulfilled.reset()

    # without noise it is one of the two, and the probabilities are the network's
    action, action_prob, *_ = ddpg_per.act_discrete({"state": state})
    assert action.shape == (1, 1) and action_prob.shape == (1, action_num)

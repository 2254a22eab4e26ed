"""Recurrent PPO: the hidden state is a part of the state, and comes out after what PPO reads."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import PPO
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger
from torch.distributions import Categorical

observe_dim = 2  # positions alone: velocities have to be remembered
action_num = 2
hidden_dim = 16
layer_num = 2
max_episodes = int(os.environ.get("EPISODES", "1000"))
max_steps = 200


class RecurrentActor(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.gru = nn.GRU(state_dim, hidden_dim, num_layers=layer_num, batch_first=True)
        self.fc = nn.Linear(hidden_dim, action_num)

    def forward(self, mem, hidden, action=None):
        out, h = self.gru(mem.unsqueeze(1), hidden.transpose(0, 1).contiguous())
        dist = Categorical(logits=self.fc(t.relu(out[:, 0])))
        act = action if action is not None else dist.sample().view(-1, 1)
        log_prob = dist.log_prob(act.flatten()).view(-1, 1)
        return act, log_prob, dist.entropy(), h.transpose(0, 1)


class Critic(nn.Module):
    def __init__(self, state_dim):
        super().__init__()
        self.fc1 = nn.Linear(state_dim + layer_num * hidden_dim, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, mem, hidden):
        v = t.relu(self.fc1(t.cat([mem, hidden.flatten(1)], dim=1)))
        v = t.relu(self.fc2(v))
        return self.fc3(v)


def look(observation):
    return t.tensor([observation[0], observation[2]], dtype=t.float32).view(1, observe_dim)


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)
    rppo = PPO(
        RecurrentActor(observe_dim, action_num),
        Critic(observe_dim),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        entropy_weight=-1e-2,
        gae_lambda=0.95,
        actor_update_times=8,
    )

    episode, step = Counter(), Counter()
    smoothed_total_reward = 0
    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        terminal = False
        state = look(env.reset()[0])
        hidden = t.zeros(1, layer_num, hidden_dim)
        tmp_observations = []
        while not terminal:
            step.count()
            old_state, old_hidden = state, hidden
            with t.no_grad():
                action, _, _, hidden = rppo.act({"mem": old_state, "hidden": old_hidden})
            observation, reward, done, cut, _ = env.step(action.item())
            terminal = done or cut
            state = look(observation)
            total_reward += reward
            tmp_observations.append(
                {
                    "state": {"mem": old_state, "hidden": old_hidden},
                    "action": {"action": action},
                    "next_state": {"mem": state, "hidden": hidden},
                    "reward": reward,
                    "terminal": terminal,
                }
            )
        rppo.store_episode(tmp_observations)
        policy_value, value_loss = rppo.update()
        smoothed_total_reward = smoothed_total_reward * 0.9 + total_reward * 0.1
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} "
            f"policy_loss={-policy_value} value_loss={value_loss}"
        )

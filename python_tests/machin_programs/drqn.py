"""Recurrent DQN: acts step by step with a hidden state, learns from histories.

The network has two ways to be called. To act it gets ``mem``, one step, and ``hidden``; to learn
it gets ``history_mem``, the last steps, and the hidden state from before them.
"""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DQNPer
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

observe_dim = 2  # positions alone: velocities have to be remembered
action_num = 2
history_depth = 4
hidden_dim = 16
max_episodes = int(os.environ.get("EPISODES", "1000"))
warm_up_episodes = int(os.environ.get("WARM_UP", "100"))
max_steps = 200


class RecurrentQNet(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.gru = nn.GRU(state_dim, hidden_dim, batch_first=True)
        self.fc1 = nn.Linear(hidden_dim, 16)
        self.fc2 = nn.Linear(16, action_num)

    def forward(self, mem=None, hidden=None, history_mem=None):
        if mem is not None:
            # acting: [batch, state_dim], one step
            out, h = self.gru(mem.unsqueeze(1), hidden.transpose(0, 1).contiguous())
            a = self.fc2(t.relu(self.fc1(out[:, -1])))
            return a, h.transpose(0, 1)
        # learning: [batch, history_depth, state_dim]
        out, _ = self.gru(history_mem, hidden.transpose(0, 1).contiguous())
        return self.fc2(t.relu(self.fc1(out[:, -1])))


def look(observation):
    return t.tensor([observation[0], observation[2]], dtype=t.float32).view(1, observe_dim)


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)
    drqn = DQNPer(
        RecurrentQNet(observe_dim, action_num),
        RecurrentQNet(observe_dim, action_num),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        learning_rate=1e-3,
    )

    episode, step, reward_fulfilled = Counter(), Counter(), Counter()
    smoothed_total_reward = 0
    loss = None
    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        terminal = False
        state = look(env.reset()[0])
        # before each step of the history; the batch comes first, so that it can be stored
        hiddens = [t.zeros(1, 1, hidden_dim)] * history_depth
        history = [t.zeros(1, observe_dim)] * (history_depth - 1) + [state]
        hidden = t.zeros(1, 1, hidden_dim)
        tmp_observations = []
        while not terminal:
            step.count()
            old_history, old_hiddens = list(history), list(hiddens)
            with t.no_grad():
                action, hidden = drqn.act_discrete_with_noise({"mem": state, "hidden": hidden})
            observation, reward, done, cut, _ = env.step(action.item())
            terminal = done or cut
            state = look(observation)
            history = [*history[1:], state]
            hiddens = [*hiddens[1:], hidden]
            total_reward += reward
            tmp_observations.append(
                {
                    "state": {
                        "history_mem": t.stack(old_history, dim=1),
                        "hidden": old_hiddens[0],
                    },
                    "action": {"action": action},
                    "next_state": {
                        "history_mem": t.stack(history, dim=1),
                        "hidden": hiddens[0],
                    },
                    "reward": reward,
                    "terminal": terminal,
                }
            )
        drqn.store_episode(tmp_observations)
        if episode > warm_up_episodes:
            for _ in range(step.get()):
                loss = drqn.update()
        smoothed_total_reward = smoothed_total_reward * 0.9 + total_reward * 0.1
        logger.info(f"Episode {episode} total reward={smoothed_total_reward:.2f} value_loss={loss}")

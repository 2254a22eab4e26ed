"""DQN whose state has two parts: the last steps, and a goal that the network may go without."""

import os
from collections import deque

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DQN
from machin.model.nets import NeuralNetworkModule, dynamic_module_wrapper
from machin.utils.helper_classes import Counter, Object, Trigger
from machin.utils.logging import default_logger as logger

settings = Object({"depth": 4, "steps": 200, "episodes": int(os.environ.get("EPISODES", "1000"))})


class QNet(NeuralNetworkModule):
    def __init__(self, state_dim, depth, action_num):
        super().__init__()
        self.first = nn.Linear(state_dim * depth, 16)
        self.second = nn.Linear(16, 16)
        self.last = nn.Linear(16, action_num)
        self.set_input_module(self.first)
        self.set_output_module(self.last)

    def forward(self, history, scale: float = 1.0):
        a = t.relu(self.first(history.flatten(1)))
        return self.last(t.relu(self.second(a))) * scale


class History:
    def __init__(self, depth, first):
        self.steps = deque([t.zeros_like(first)] * (depth - 1) + [first], maxlen=depth)

    def append(self, step):
        self.steps.append(step)
        return self

    def get(self):
        return t.stack(list(self.steps), dim=1)


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=settings.steps)
    dqn = DQN(
        QNet(4, settings.depth, 2),
        dynamic_module_wrapper(nn.Sequential(QNet(4, settings.depth, 2))).wrapped_module[0],
        t.optim.RMSprop,
        nn.SmoothL1Loss(),
        mode="fixed_target",
        update_rate=None,
        update_steps=10,
        discount=0.95,
        batch_size=32,
    )
    assert settings.nothing is None
    episode, total_steps = Counter(), Counter()
    ended = Trigger()
    while episode < settings.episodes:
        episode.count()
        history = History(settings.depth, t.tensor(env.reset()[0]).unsqueeze(0))
        episode_steps = []
        while not ended.get():
            total_steps.count()
            old = history.get()
            # what no argument is called is left out
            action = dqn.act_discrete_with_noise({"history": old, "position": old[:, -1, :1]})
            observation, reward, done, cut, _ = env.step(action.item())
            if done or cut:
                ended.on()
            new = history.append(t.tensor(observation).unsqueeze(0)).get()
            episode_steps.append(
                {
                    "state": {"history": old, "position": old[:, -1, :1]},
                    "action": {"action": action},
                    "next_state": {"history": new, "position": new[:, -1, :1]},
                    "reward": reward,
                    "terminal": done or cut,
                }
            )
        dqn.store_episode(episode_steps)
        loss = sum(dqn.update() for _ in episode_steps) / len(episode_steps)
        greedy = dqn.act_discrete({"history": old}, use_target=True).item()
        logger.info(
            f"{total_steps} steps, {len(episode_steps)} in episode {episode}, "
            f"value_loss={loss}, epsilon={dqn.epsilon:.3f}, action {greedy}"
        )

"""Written for Machin before 0.4.2: transitions are stored one by one, buffers append."""

import os
import random

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DDPG, DQN
from machin.frame.buffers import Buffer, PrioritizedBuffer
from machin.frame.transition import Transition
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

max_episodes = int(os.environ.get("EPISODES", "1000"))
max_steps = int(os.environ.get("STEPS", "200"))


class QNet(nn.Module):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, action_num)

    def forward(self, state):
        return self.fc2(t.relu(self.fc1(state)))


class Actor(QNet):
    def forward(self, state):
        return t.tanh(super().forward(state)) * 2


class Critic(QNet):
    def forward(self, state, action):
        return super().forward(t.cat([state, action], 1))


def cartpole():
    env = gym.make("CartPole-v1", max_episode_steps=max_steps)
    dqn = DQN(
        QNet(4, 2),
        QNet(4, 2),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        replay_size=10000,
        replay_device="cpu",
    )
    episode, step = Counter(), Counter()
    loss = None
    while episode < max_episodes:
        episode.count()
        step.reset()
        terminal = False
        state = t.tensor(env.reset()[0], dtype=t.float32).view(1, 4)
        while not terminal:
            step.count()
            old_state = state
            action = dqn.act_discrete_with_noise({"state": old_state})
            state, reward, done, cut, info = env.step(action.item())
            terminal = done or cut
            state = t.tensor(state, dtype=t.float32).view(1, 4)
            dqn.store_transition(
                {
                    "state": {"state": old_state},
                    "action": {"action": action},
                    "next_state": {"state": state},
                    "reward": float(reward),
                    "terminal": terminal,
                    "info": info,
                    "when": step.get(),
                }
            )
            loss = dqn.update()
        logger.info(f"Episode {episode}: {step} steps, value_loss={loss}")
    return dqn.replay_buffer


def pendulum():
    env = gym.make("Pendulum-v1", max_episode_steps=max_steps)
    ddpg = DDPG(Actor(3, 1), Actor(3, 1), Critic(4, 1), Critic(4, 1), t.optim.Adam, nn.MSELoss())
    state = t.tensor(env.reset()[0], dtype=t.float32).view(1, 3)
    for step in range(max_steps):
        old_state = state
        action = ddpg.act_with_noise({"state": old_state}, (0, 0.2), mode="normal")
        state, reward, _, cut, _ = env.step(action.numpy().flatten())
        state = t.tensor(state, dtype=t.float32).view(1, 3)
        ddpg.store_transition(
            {
                "state": {"state": old_state},
                "action": {"action": action},
                "next_state": {"state": state},
                "reward": float(reward),
                "terminal": cut,
            }
        )
        policy_value, value_loss = ddpg.update()
        logger.info(f"Step {step} policy_loss={-policy_value} value_loss={value_loss}")


def oldest(transitions, batch_size):
    """A sample method, as a function; gets a list in 0.4.2, a buffer today."""
    if isinstance(transitions, Buffer):
        _, (states, *_) = transitions.sample_batch(1, sample_method="all")
        assert len(states["state"]) > 1
        transitions = [transitions.storage[i] for i in range(len(transitions.storage))]
    return min(batch_size, len(transitions)), transitions[:batch_size]


def buffers():
    made = [
        {
            "state": {"state": t.full((1, 4), float(i))},
            "action": {"action": t.tensor([[i % 2]])},
            "next_state": {"state": t.full((1, 4), i + 1.0)},
            "reward": i / 2,
            "terminal": i == 9,
            "tag": i,
        }
        for i in range(10)
    ]
    buffer = Buffer(buffer_size=6, buffer_device="cpu")
    for each in made:
        buffer.append(each)
    assert buffer.size() == 6
    size, (states, rewards, tags) = buffer.sample_batch(
        4,
        concatenate=True,
        sample_method="random",
        sample_attrs=["state", "reward", "tag"],
        additional_concat_attrs=["tag"],
    )
    assert size == 4 and states["state"].shape == (4, 4)
    assert rewards.shape == (4, 1) and t.equal(rewards.flatten(), tags.flatten() / 2)
    size, (rewards, others) = buffer.sample_batch(
        3, sample_method=oldest, sample_attrs=["reward", "*"]
    )
    assert size == 3 and len(others["tag"]) == 3

    buffer = PrioritizedBuffer(6, "cpu")
    for each in made:
        buffer.append(Transition(**each), priority=random.random())
    size, (states, _), index, weight = buffer.sample_batch(8, True, None, ["state", "reward"])
    assert size == 8 and states["state"].shape == (8, 4) and weight.shape == (8,)
    buffer.update_priority(weight + 1, index)
    buffer.clear()
    assert buffer.size() == 0


if __name__ == "__main__":
    buffer = cartpole()
    _, (other,) = buffer.sample_batch(5, sample_attrs=["*"])
    assert sorted(other) == ["info", "when"] and isinstance(other["info"][0], dict)
    pendulum()
    buffers()

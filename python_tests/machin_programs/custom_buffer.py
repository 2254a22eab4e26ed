"""Buffers and transitions of one's own: ragged states are padded, draws are one's own."""

import os
import random

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import A2C, DQN, DQNPer
from machin.frame.buffers import Buffer, PrioritizedBuffer
from machin.frame.transition import Transition, TransitionBase
from machin.utils.logging import default_logger as logger

max_episodes = int(os.environ.get("EPISODES", "1000"))


class AttentionNet(nn.Module):
    """Sees all steps of an episode so far, with zeros after them."""

    def __init__(self, outputs):
        super().__init__()
        self.key = nn.Linear(4, 16)
        self.last = nn.Linear(16, outputs)

    def forward(self, steps):
        return self.last(t.relu(self.key(steps)).sum(1))


class Actor(AttentionNet):
    def forward(self, steps, action=None):
        dist = t.distributions.Categorical(logits=super().forward(steps))
        act = dist.sample().unsqueeze(1) if action is None else action
        return act, dist.log_prob(act.flatten()), dist.entropy()


class PaddingBuffer(Buffer):
    def pre_process_attribute(self, attribute, sub_key, values):
        if sub_key != "steps":
            return values
        longest = max(value.shape[1] for value in values)
        return [
            t.cat([value, value.new_zeros(1, longest - value.shape[1], 4)], dim=1)
            for value in values
        ]

    def sample_method_random_unique(self, batch_size):
        """The latest transitions half of the time."""
        size, batch = super().sample_method_random_unique(batch_size)
        if random.random() < 0.5 and size:
            handles = list(self.transition_episode_number)[-size:]
            batch = [self.storage[handle] for handle in handles]
        return size, batch


class CountingBuffer(PaddingBuffer, PrioritizedBuffer):
    """Also overrides the whole of sample_batch, with the arguments that it needs."""

    drawn = 0

    def sample_batch(
        self,
        batch_size,
        concatenate=True,
        device="cpu",
        sample_attrs=None,
        additional_concat_custom_attrs=None,
        *_,
        **__,
    ):
        self.drawn += 1
        return PrioritizedBuffer.sample_batch(
            self, batch_size, concatenate, device, sample_attrs, additional_concat_custom_attrs
        )


class WeatherTransition(TransitionBase):
    """More than Machin's: a number and an object, beside what frames need."""

    def __init__(self, state, action, next_state, reward, terminal, wind, note):
        super().__init__(
            major_attr=["state", "action", "next_state"],
            sub_attr=["reward", "terminal", "wind"],
            custom_attr=["note"],
            major_data=[state, action, next_state],
            sub_data=[reward, terminal, wind],
            custom_data=[note],
        )


class WindyDQN(DQNPer):
    @staticmethod
    def reward_function(reward, discount, next_value, terminal, others):
        assert len(others["note"]) == len(reward)
        return reward + discount * (1 - terminal.float()) * next_value


def play(env, act, make):
    observation, _ = env.reset()
    steps = t.tensor(observation).view(1, 1, 4)
    terminal = False
    episode = []
    while not terminal:
        old_steps = steps
        action = act({"steps": old_steps})
        action = action[0] if isinstance(action, tuple) else action
        observation, reward, done, cut, _ = env.step(action.item())
        terminal = done or cut
        steps = t.cat([old_steps, t.tensor(observation).view(1, 1, 4)], dim=1)
        episode.append(
            make(
                state={"steps": old_steps},
                action={"action": action},
                next_state={"steps": steps},
                reward=float(reward),
                terminal=terminal,
            )
        )
    return episode


def windy(**values):
    return WeatherTransition(**values, wind=random.random(), note={"random": random.random()})


if __name__ == "__main__":
    env = gym.make("CartPole-v1", max_episode_steps=20)
    criterion = nn.MSELoss(reduction="sum")
    dqn = DQN(
        AttentionNet(2),
        AttentionNet(2),
        t.optim.Adam,
        criterion,
        replay_buffer=PaddingBuffer(2000, "cpu"),
    )
    dqn_per = WindyDQN(
        AttentionNet(2),
        AttentionNet(2),
        t.optim.Adam,
        nn.MSELoss(reduction="sum"),
        replay_buffer=CountingBuffer(2000, "cpu", alpha=0.7, beta=0.5),
    )
    a2c = A2C(Actor(2), AttentionNet(1), t.optim.Adam, criterion, replay_buffer=PaddingBuffer())
    for episode in range(max_episodes):
        for frame, act, make in (
            (dqn, dqn.act_discrete_with_noise, Transition),
            (dqn_per, dqn_per.act_discrete_with_noise, windy),
            (a2c, a2c.act, dict),
        ):
            steps = play(env, act, make)
            frame.store_episode(steps)
            times = 1 if frame is a2c else len(steps)
            loss = [frame.update() for _ in range(times)][-1]
            loss = loss[1] if frame is a2c else loss
            logger.info(f"Episode {episode} of {type(frame).__name__}: value_loss={loss}")
    assert dqn_per.replay_buffer.drawn > 0

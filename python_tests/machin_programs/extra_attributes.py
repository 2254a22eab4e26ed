"""Stores more than frames ask for, under names that come to mind with Gymnasium."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import A2C, DQN, PPO, RAINBOW, SAC, DDPGPer, DQNPer
from machin.utils.logging import default_logger as logger
from torch.distributions import Categorical, Normal

max_episodes = int(os.environ.get("EPISODES", "1000"))
max_steps = int(os.environ.get("STEPS", "200"))


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, 16)
        self.fc2 = nn.Linear(16, outputs)

    def forward(self, state):
        return self.fc2(t.relu(self.fc1(state)))


class Distributions(Net):
    def forward(self, state):
        return t.softmax(super().forward(state).view(-1, 2, 10), dim=2)


class Critic(Net):
    def forward(self, state, action):
        return super().forward(t.cat([state, action], dim=1))


class Probabilities(Net):
    def forward(self, state):
        return t.softmax(super().forward(state), dim=1)


class Choosing(Net):
    def forward(self, state, action=None):
        dist = Categorical(logits=super().forward(state))
        act = dist.sample().view(-1, 1) if action is None else action
        return act, dist.log_prob(act.flatten()), dist.entropy()


class Drawing(Net):
    def forward(self, state, action=None):
        dist = Normal(super().forward(state), 1.0)
        act = dist.rsample() if action is None else action
        return act, dist.log_prob(act).sum(1), dist.entropy().sum(1)


def q_act(frame, state):
    return {"action": frame.act_discrete_with_noise(state)}


def probability_act(frame, state):
    action, probability = frame.act_discrete_with_noise(state)
    return {"action": probability, "chosen": action}


def drawn_act(frame, state):
    action, log_prob, entropy = frame.act(state)
    return {"action": action, "log_prob": log_prob, "entropy": entropy.item()}


def train(env, frame, act):
    for episode in range(max_episodes):
        state, _ = env.reset()
        terminated = truncated = False
        steps = []
        while not (terminated or truncated):
            old_state = t.tensor(state).view(1, -1)
            found = act(frame, {"state": old_state})
            action = found.pop("action")
            number = found.pop("chosen", action)
            if isinstance(env.action_space, gym.spaces.Discrete):
                number = number.item()
            else:
                number = number.numpy().flatten()
            state, reward, terminated, truncated, info = env.step(number)
            steps.append(
                {
                    "state": {"state": old_state},
                    "action": {"action": action},
                    "next_state": {"state": t.tensor(state).view(1, -1)},
                    "reward": float(reward),
                    "terminal": terminated or truncated,
                    "terminated": terminated,
                    "truncated": truncated,
                    "info": info,
                    "episode": episode,
                    "step": len(steps),
                    "advantage": 0.0,
                    "note": "nothing" if terminated else None,
                    **found,
                }
            )
        frame.store_episode(steps)
        loss = frame.update()
        loss = loss[1] if isinstance(loss, tuple) else loss
        logger.info(f"{type(frame).__name__} {episode} reward={len(steps)} value_loss={loss}")


if __name__ == "__main__":
    cart = gym.make("CartPole-v1", max_episode_steps=max_steps)
    pendulum = gym.make("Pendulum-v1", max_episode_steps=max_steps)
    adam = t.optim.Adam
    train(cart, DQN(Net(4, 2), Net(4, 2), adam, nn.MSELoss(reduction="sum")), q_act)
    train(cart, DQNPer(Net(4, 2), Net(4, 2), adam, nn.MSELoss(reduction="sum")), q_act)
    train(cart, RAINBOW(Distributions(4, 20), Distributions(4, 20), adam, 0, 40), q_act)
    actors = [Probabilities(4, 2) for _ in range(2)]
    critics = [Critic(6, 1) for _ in range(2)]
    train(cart, DDPGPer(*actors, *critics, adam, nn.MSELoss()), probability_act)
    train(cart, A2C(Choosing(4, 2), Net(4, 1), adam, nn.MSELoss(reduction="sum")), drawn_act)
    train(cart, PPO(Choosing(4, 2), Net(4, 1), adam, nn.MSELoss(reduction="sum")), drawn_act)
    critics = [Critic(4, 1) for _ in range(4)]
    train(pendulum, SAC(Drawing(3, 1), *critics, adam, nn.MSELoss()), drawn_act)

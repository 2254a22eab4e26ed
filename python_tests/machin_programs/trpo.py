"""TRPO: CartPole with the Fisher matrix of the distribution, Pendulum by differentiating twice."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import TRPO
from machin.model.algorithms.trpo import ActorContinuous, ActorDiscrete
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger

max_episodes = int(os.environ.get("EPISODES", "2000"))
max_steps = int(os.environ.get("STEPS", "200"))


class CartActor(ActorDiscrete):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 2)

    def forward(self, state, action=None):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        return self.sample(t.softmax(self.fc3(a), dim=1), action)


class PendulumActor(ActorContinuous):
    def __init__(self):
        super().__init__(1, log_std=-0.5)
        self.fc1 = nn.Linear(3, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, state, action=None):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        return self.sample(self.fc3(a), action)


class Critic(nn.Module):
    def __init__(self, state_dim):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(state_dim, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)
        )

    def forward(self, state):
        return self.net(state)


def train(env, trpo, to_env):
    episode, step = Counter(), Counter()
    smoothed_total_reward = 0
    while episode < max_episodes:
        episode.count()
        step.reset()
        total_reward = 0
        terminal = False
        state = t.tensor(env.reset()[0], dtype=t.float32).unsqueeze(0)
        tmp_observations = []
        while not terminal and step < max_steps:
            step.count()
            old_state = state
            action = trpo.act({"state": old_state})[0]
            state, reward, done, cut, _ = env.step(to_env(action))
            terminal = done or cut
            state = t.tensor(state, dtype=t.float32).unsqueeze(0)
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
        trpo.store_episode(tmp_observations)
        policy_loss, value_loss = trpo.update()
        smoothed_total_reward = smoothed_total_reward * 0.8 + total_reward * 0.2
        logger.info(
            f"Episode {episode} total reward={smoothed_total_reward:.2f} "
            f"policy_loss={float(policy_loss)} value_loss={value_loss}"
        )


if __name__ == "__main__":
    criterion = nn.MSELoss(reduction="sum")
    cart = TRPO(CartActor(), Critic(4), t.optim.Adam, criterion, gae_lambda=1.0, kl_max_delta=0.01)
    before = TRPO.get_flat_params(cart.actor).clone()
    train(gym.make("CartPole-v1", max_episode_steps=max_steps), cart, lambda a: a.item())
    assert not t.equal(TRPO.get_flat_params(cart.actor), before)

    pendulum = TRPO(
        PendulumActor(),
        Critic(3),
        t.optim.Adam,
        criterion,
        gae_lambda=0.5,
        hv_mode="direct",
        line_search_backtracks=15,
    )
    train(gym.make("Pendulum-v1"), pendulum, lambda a: a.numpy()[0])

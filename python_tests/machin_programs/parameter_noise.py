"""DDPG that explores by noise in its parameters."""

import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DDPG
from machin.frame.noise.generator import OrnsteinUhlenbeckNoiseGen
from machin.frame.noise.param_space_noise import perturb_model
from machin.utils.helper_classes import Counter, Switch
from machin.utils.logging import default_logger as logger

max_episodes = int(os.environ.get("EPISODES", "1000"))
max_steps = int(os.environ.get("STEPS", "200"))


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(3, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, state):
        a = t.relu(self.fc1(state))
        a = t.relu(self.fc2(a))
        return t.tanh(self.fc3(a)) * 2


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 1)

    def forward(self, state, action):
        q = t.relu(self.fc1(t.cat([state, action], dim=1)))
        q = t.relu(self.fc2(q))
        return self.fc3(q)


if __name__ == "__main__":
    env = gym.make("Pendulum-v1", max_episode_steps=max_steps)
    actor = Actor()
    ddpg = DDPG(
        actor, Actor(), Critic(), Critic(), t.optim.Adam, nn.MSELoss(reduction="sum"), batch_size=32
    )
    perturb, reset = Switch(), Switch()
    cancel = perturb_model(actor, perturb, reset, desired_action_stddev=0.5)
    extra = OrnsteinUhlenbeckNoiseGen((1, 1), sigma=0.1)
    episode, step = Counter(), Counter()
    while episode < max_episodes:
        episode.count()
        step.reset()
        extra.reset()
        reset.on()
        state = t.tensor(env.reset()[0]).view(1, 3)
        total_reward = 0
        steps = []
        while step < max_steps:
            step.count()
            old_state = state
            perturb.on()
            action = ddpg.act({"state": old_state}) + extra("cpu")
            perturb.off()
            reset.off()
            state, reward, *_ = env.step(action.numpy().flatten())
            state = t.tensor(state).view(1, 3)
            total_reward += float(reward)
            steps.append(
                {
                    "state": {"state": old_state},
                    "action": {"action": action},
                    "next_state": {"state": state},
                    "reward": float(reward),
                    "terminal": step == max_steps,
                }
            )
        ddpg.store_episode(steps)
        for _ in range(step.get()):
            policy_value, value_loss = ddpg.update()
        logger.info(
            f"Episode {episode} reward={total_reward:.2f} "
            f"policy_loss={-policy_value} value_loss={value_loss}"
        )
    cancel()
    a, b = (ddpg.act({"state": state}) for _ in range(2))
    assert t.equal(a, b)

"""Subclasses that change what is between frame and networks; attributes of their own."""

import os

import gymnasium as gym
import numpy as np
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DDPG, DQN, SAC
from machin.utils.logging import default_logger as logger
from torch.distributions import Normal

max_steps = int(os.environ.get("STEPS", "200"))
max_episodes = int(os.environ.get("EPISODES", "1000"))


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, 16)
        self.fc2 = nn.Linear(16, outputs)

    def forward(self, state):
        return self.fc2(t.relu(self.fc1(state)))


class Critic(nn.Module):
    """Sees what is pushed, and which way it leans, by their own names."""

    def __init__(self):
        super().__init__()
        self.net = Net(3 + 2, 1)

    def forward(self, state, push, lean):
        return self.net(t.cat([state, push, lean], dim=1))


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net(3, 2)

    def forward(self, state, action=None):
        mean, log_std = self.net(state).chunk(2, dim=1)
        dist = Normal(mean, log_std.clamp(-5, 1).exp())
        action = dist.rsample() if action is None else action
        return action, dist.log_prob(action).sum(1, keepdim=True), dist.entropy().mean(1)


class Squashed:
    seen = 0

    @staticmethod
    def action_transform_function(raw_output_action, state, others):
        Squashed.seen += 1
        assert state["state"].shape[0] == raw_output_action.shape[0] == len(others["energy"])
        return {"push": t.tanh(raw_output_action) * 2, "lean": state["state"][:, 1:2]}

    @staticmethod
    def reward_function(reward, discount, next_value, terminal, others):
        # rewards less effort, which was stored beside them
        effort = t.tensor(others["energy"]).view(-1, 1)
        next_value = next_value.to(reward.device)
        next_value[terminal] = 0
        return reward - 0.1 * effort + discount * next_value


class MyDDPG(Squashed, DDPG):
    pass


class MySAC(Squashed, SAC):
    pass


class MyDQN(DQN):
    """The action is stored under another name, as what was done and not as its number."""

    @staticmethod
    def action_get_function(sampled_actions):
        return (sampled_actions["force"] > 0).long()


def swing(env, frame, act):
    state, _ = env.reset()
    state = t.tensor(state, dtype=t.float32).view(1, 3)
    steps = []
    for step in range(max_steps):
        old_state = state
        raw = act({"state": old_state})
        push = t.tanh(raw) * 2
        state, reward, *_ = env.step(push.numpy().flatten())
        state = t.tensor(state, dtype=t.float32).view(1, 3)
        steps.append(
            {
                "state": {"state": old_state},
                "action": {"push": push, "lean": old_state[:, 1:2]},
                "next_state": {"state": state},
                "reward": float(reward),
                "terminal": step == max_steps - 1,
                "energy": float(push.item() ** 2),
            }
        )
    frame.store_episode(steps)
    for _ in steps:
        policy_value, value_loss = frame.update()
    logger.info(f"{type(frame).__name__} policy_loss={-policy_value} value_loss={value_loss}")


def balance(env, frame):
    terminal = False
    state = t.tensor(env.reset()[0]).view(1, 4)
    steps = []
    while not terminal:
        old_state = state
        action = frame.act_discrete_with_noise({"state": old_state}, decay_epsilon=len(steps) > 3)
        observation, reward, done, cut, _ = env.step(action.item())
        terminal = np.bool_(done or cut)
        state = t.tensor(observation).view(1, 4)
        steps.append(
            {
                "state": {"state": old_state},
                "action": {"force": action * 20.0 - 10},
                "next_state": {"state": state},
                "reward": np.float32(reward),
                "terminal": bool(terminal),
            }
        )
    frame.store_episode(steps)
    for _ in steps:
        loss = frame.update()
    logger.info(f"{type(frame).__name__} value_loss={loss}")


if __name__ == "__main__":
    pendulum = gym.make("Pendulum-v1", max_episode_steps=max_steps)
    ddpg = MyDDPG(
        Net(3, 1), Net(3, 1), Critic(), Critic(), t.optim.Adam, nn.MSELoss(reduction="sum")
    )
    sac = MySAC(
        Actor(), *(Critic() for _ in range(4)), t.optim.Adam, nn.MSELoss(), target_entropy=-1
    )
    dqn = MyDQN(Net(4, 2), Net(4, 2), t.optim.Adam, nn.MSELoss(reduction="sum"), mode="vanilla")
    # hooks may be set on one frame alone
    asked = []
    dqn.reward_function = lambda reward, discount, next_value, terminal, _: (
        asked.append(len(reward)) or reward + discount * ~terminal * next_value
    )
    # and what takes gradients
    steps_back = []
    ddpg.set_backward_function(lambda loss: (steps_back.append(loss), loss.backward()))

    cartpole = gym.make("CartPole-v1", max_episode_steps=max_steps)
    for _ in range(max_episodes):
        swing(pendulum, ddpg, lambda s: ddpg.act_with_noise(s, (-1, 1), ratio=0.3))
        swing(pendulum, sac, lambda s: sac.act(s)[0])
        balance(cartpole, dqn)
    assert Squashed.seen and asked and steps_back

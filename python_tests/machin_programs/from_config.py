"""Frames from configs, whose models are named: classes of this file, found from the stack."""

import json
import os

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import (
    A2C,
    DDPG,
    DQN,
    HDDPG,
    PPO,
    RAINBOW,
    SAC,
    TD3,
    TRPO,
    DDPGPer,
    DQNPer,
)
from machin.model.algorithms.trpo import ActorDiscrete
from machin.utils.conf import Config
from machin.utils.logging import default_logger as logger
from torch.distributions import Categorical, Normal

episodes = int(os.environ.get("EPISODES", "1000"))


class QNet(nn.Module):
    def __init__(self, state_dim, action_num, atom_num=None):
        super().__init__()
        self.shape = (action_num,) if atom_num is None else (action_num, atom_num)
        self.fc1 = nn.Linear(state_dim, 16)
        self.fc2 = nn.Linear(16, action_num * (atom_num or 1))

    def forward(self, state):
        out = self.fc2(t.relu(self.fc1(state))).view(-1, *self.shape)
        return out if len(self.shape) == 1 else t.softmax(out, dim=2)


class Critic(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = QNet(dim, 1)

    def forward(self, state, action):
        return self.net(t.cat([state, action], dim=1))


class ValueNet(QNet):
    pass


class Actor(QNet):
    def forward(self, state):
        return t.softmax(super().forward(state), dim=1)


class DrawingActor(QNet):
    def forward(self, state, action=None):
        dist = Categorical(logits=super().forward(state))
        act = dist.sample().view(-1, 1) if action is None else action
        return act, dist.log_prob(act.flatten()), dist.entropy()


class GaussianActor(QNet):
    def forward(self, state, action=None):
        dist = Normal(super().forward(state), 0.5)
        act = dist.rsample() if action is None else action
        return act, dist.log_prob(act).sum(1), dist.entropy().sum(1)


class TrustedActor(ActorDiscrete):
    def __init__(self, state_dim, action_num):
        super().__init__()
        self.net = QNet(state_dim, action_num)

    def forward(self, state, action=None):
        return self.sample(t.softmax(self.net(state), dim=1), action)


def act(frame, state):
    """The action for the environment, and what is stored of it."""
    if isinstance(frame, DQN):
        action = frame.act_discrete_with_noise({"state": state})
        return action.item(), action
    if isinstance(frame, DDPG):
        action, probability = frame.act_discrete_with_noise({"state": state})
        return action.item(), probability
    action = frame.act({"state": state})[0]
    return (int(action.argmax()) if isinstance(frame, SAC) else action.item()), action


def train(frame):
    env = gym.make("CartPole-v1", max_episode_steps=200)
    for episode in range(episodes):
        terminal = False
        state = t.tensor(env.reset()[0]).view(1, 4)
        steps = []
        while not terminal:
            old_state = state
            number, action = act(frame, old_state)
            state, reward, done, cut, _ = env.step(number)
            state = t.tensor(state).view(1, 4)
            terminal = done or cut
            steps.append(
                {
                    "state": {"state": old_state},
                    "action": {"action": action},
                    "next_state": {"state": state},
                    "reward": reward,
                    "terminal": terminal,
                }
            )
        frame.store_episode(steps)
        loss = frame.update()
        loss = float(loss[1] if isinstance(loss, tuple) else loss)
        logger.info(f"{type(frame).__name__} {episode} reward={len(steps)} value_loss={loss}")


def make(framework, models, arguments, **settings):
    config = framework.generate_config({})
    assert config["frame"] == framework.__name__
    config["frame_config"]["models"] = models
    config["frame_config"]["model_args"] = arguments
    config["frame_config"]["model_kwargs"] = [{}] * len(models)
    config["frame_config"].update(settings)
    before = json.dumps(config, sort_keys=True, default=str)
    frame = framework.init_from_config(config, model_device="cpu")
    assert json.dumps(config, sort_keys=True, default=str) == before
    return frame


if __name__ == "__main__":
    q_net, actor, critic = (4, 2), (4, 2), (4 + 2,)
    frames = [
        make(DQN, ["QNet", "QNet"], [q_net, q_net], mode="fixed_target", learning_rate=5e-4),
        make(DQNPer, [QNet, QNet], [q_net, q_net], optimizer="RMSprop"),
        make(RAINBOW, ["QNet"] * 2, [(4, 2, 11)] * 2, value_min=0.0, value_max=30.0),
        make(DDPG, ["Actor", "Actor", "Critic", "Critic"], [actor, actor, critic, critic]),
        make(DDPGPer, ["Actor", "Actor", "Critic", "Critic"], [actor, actor, critic, critic]),
        make(HDDPG, ["Actor", "Actor", "Critic", "Critic"], [actor, actor, critic, critic]),
        make(TD3, ["Actor"] * 2 + ["Critic"] * 4, [actor] * 2 + [critic] * 4),
        make(SAC, ["GaussianActor"] + ["Critic"] * 4, [actor] + [critic] * 4, target_entropy=-2),
        make(A2C, ["DrawingActor", "ValueNet"], [actor, (4, 1)], criterion="SmoothL1Loss"),
        make(
            PPO,
            ["DrawingActor", "ValueNet"],
            [actor, (4, 1)],
            criterion_kwargs={"reduction": "sum"},
            lr_scheduler="LambdaLR",
            lr_scheduler_args=((lambda step: 1.0,), (lambda step: 0.5,)),
        ),
        make(TRPO, ["TrustedActor", "ValueNet"], [actor, (4, 1)], hv_mode="fim"),
    ]
    assert frames[0].mode == "fixed_target" and isinstance(frames[1].qnet_optim, t.optim.RMSprop)

    # a Config object, and values that were there before
    config = DQN.generate_config(Config(trial="first", frame_config={"batch_size": 7}))
    assert config.trial == "first" and config.frame == "DQN"
    config.frame_config["models"] = ["QNet", "QNet"]
    config["frame_config"]["model_kwargs"] = [{"state_dim": 4, "action_num": 2}] * 2
    dqn = DQN.init_from_config(config)
    assert dqn.batch_size == 7

    for frame in [*frames, dqn]:
        train(frame)

"""Saves models in versions beside a training run, and goes on from them."""

import os
import tempfile

import gymnasium as gym
import torch as t
import torch.nn as nn
from machin.frame.algorithms import DDPG, DQN, SAC
from machin.utils.conf import Config, load_config_file, merge_config, save_config
from machin.utils.helper_classes import Counter
from machin.utils.logging import default_logger as logger
from machin.utils.prepare import prep_create_dirs, prep_load_model
from machin.utils.save_env import SaveEnv

max_episodes = int(os.environ.get("EPISODES", "1000"))


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, 16)
        self.fc2 = nn.Linear(16, outputs)

    def forward(self, state):
        return self.fc2(t.relu(self.fc1(state)))


class Critic(Net):
    def forward(self, state, action):
        return super().forward(t.cat([state, action], dim=1))


class Actor(Net):
    def forward(self, state, action=None):
        dist = t.distributions.Normal(super().forward(state), 1.0)
        act = dist.rsample() if action is None else action
        return act, dist.log_prob(act).sum(1), dist.entropy().sum(1)


def same(a, b):
    return all(t.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def make_dqn():
    return DQN(Net(4, 2), Net(4, 2), t.optim.Adam, nn.MSELoss(reduction="sum"))


def train(root):
    trial = SaveEnv(root)
    config = merge_config(Config(episodes=max_episodes), {"save_every": 2})
    config_file = trial.get_trial_config_dir() + "/config.json"
    save_config(config, config_file)
    config = load_config_file(config_file)
    model_dir = trial.get_trial_model_dir()

    env = gym.make("CartPole-v1", max_episode_steps=200)
    dqn = make_dqn()
    episode = Counter(step=1)
    while episode < config.episodes:
        episode.count()
        terminal = False
        state = t.tensor(env.reset()[0]).view(1, 4)
        steps = []
        while not terminal:
            old_state = state
            action = dqn.act_discrete_with_noise({"state": old_state})
            state, reward, done, cut, _ = env.step(action.item())
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
        dqn.store_episode(steps)
        for _ in steps:
            loss = dqn.update()
        logger.info(f"Episode {episode} reward={len(steps)} value_loss={loss}")
        if episode.get() % config["save_every"] == 0:
            dqn.save(model_dir, network_map={"qnet_target": "cart"}, version=episode.get())
    dqn.save(model_dir, {"qnet_target": "cart"}, version=episode.get())
    return dqn, model_dir, episode.get()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        dqn, model_dir, last = train(root)

        # the newest, into both networks
        again = make_dqn()
        assert not same(again.qnet, dqn.qnet_target)
        again.load(model_dir, network_map={"qnet_target": "cart"})
        assert same(again.qnet_target, dqn.qnet_target)
        assert same(again.qnet, dqn.qnet_target)
        # the first one
        first = make_dqn()
        first.load(model_dir, {"qnet_target": "cart"}, version=2)
        assert same(first.qnet_target, dqn.qnet_target) == (last == 2)
        # one that is not there: the newest
        first.load(model_dir, {"qnet_target": "cart"}, version=last + 100)
        assert same(first.qnet_target, dqn.qnet_target)
        # without the frame
        net = Net(4, 2)
        prep_load_model(model_dir, {"cart": net}, last)
        assert same(net, dqn.qnet_target)

        # several networks; unmapped ones keep their names
        models = root + "/others"
        prep_create_dirs([models])
        sacs = [
            SAC(Actor(3, 1), *(Critic(4, 1) for _ in range(4)), t.optim.Adam, nn.MSELoss())
            for _ in range(2)
        ]
        sacs[0].save(models)
        sacs[1].load(models)
        assert same(sacs[0].actor, sacs[1].actor)
        assert same(sacs[0].critic_target, sacs[1].critic)
        assert same(sacs[0].critic2_target, sacs[1].critic2)
        ddpgs = [
            DDPG(Net(3, 1), Net(3, 1), Critic(4, 1), Critic(4, 1), t.optim.Adam, nn.MSELoss())
            for _ in range(2)
        ]
        ddpgs[0].save(models, {"actor_target": "steer", "critic_target": "judge"}, version=7)
        ddpgs[1].load(models, {"actor_target": "steer", "critic_target": "judge"}, version=7)
        assert same(ddpgs[0].actor_target, ddpgs[1].actor)

        fault = ""
        try:
            dqn.load(models, network_map={"qnet_target": "nobody"})
        except RuntimeError as error:
            fault = str(error)
        assert "Cannot find a valid version for all models!" in fault

        # what Machin itself has written: whole modules, by torch.save
        t.save(net, f"{models}/qnet_target_3.pt")
        t.save(Net(4, 2).state_dict(), f"{models}/qnet_target_2.pt")
        old = make_dqn()
        old.load(models, version=2)
        assert not same(old.qnet, net)
        old.load(models, version=3, trust_pickle=True)
        assert same(old.qnet, net)

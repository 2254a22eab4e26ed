"""Learning rates that change while frames learn."""

import os

import torch as t
import torch.nn as nn
from machin.frame.algorithms import DDPG, DQN, PPO, SAC
from machin.utils.learning_rate import gen_learning_rate_func
from machin.utils.logging import default_logger as logger
from machin.utils.logging import fake_logger
from torch.optim.lr_scheduler import LambdaLR, StepLR

episodes = int(os.environ.get("EPISODES", "10"))


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


def episode(action):
    states = t.randn(11, 1, 3)
    return [
        {
            "state": {"state": states[i]},
            "action": {"action": action},
            "next_state": {"state": states[i + 1]},
            "reward": 1.0,
            "terminal": i == 9,
        }
        for i in range(10)
    ]


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


if __name__ == "__main__":
    criterion = nn.MSELoss(reduction="sum")
    # factors of the rates below
    func = gen_learning_rate_func([(0, 1.0), (2, 0.1)], logger=fake_logger)
    dqn = DQN(
        Net(3, 2),
        Net(3, 2),
        t.optim.Adam,
        criterion,
        learning_rate=0.01,
        lr_scheduler=LambdaLR,
        lr_scheduler_args=((func,),),
    )
    ddpg = DDPG(
        Net(3, 1),
        Net(3, 1),
        Critic(4, 1),
        Critic(4, 1),
        t.optim.SGD,
        criterion,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-2,
        lr_scheduler=StepLR,
        lr_scheduler_args=((1,), (1,)),
        lr_scheduler_kwargs=({"gamma": 0.5}, {"gamma": 0.25}),
    )
    sac = SAC(
        Actor(3, 1),
        *(Critic(4, 1) for _ in range(4)),
        t.optim.Adam,
        criterion,
        target_entropy=-1,
        lr_scheduler=LambdaLR,
        lr_scheduler_args=((func,), (func,), (func,)),
    )
    ppo = PPO(
        Actor(3, 1),
        Net(3, 1),
        t.optim.Adam,
        criterion,
        lr_scheduler=LambdaLR,
        lr_scheduler_args=((func,), (func,)),
    )
    plain = DQN(Net(3, 2), Net(3, 2), t.optim.Adam, criterion)
    fault = ""
    try:
        DQN(Net(3, 2), Net(3, 2), t.optim.Adam, criterion, lr_scheduler=LambdaLR)
    except TypeError as error:
        fault = str(error)
    assert "missing" in fault

    for i in range(episodes):
        dqn.store_episode(episode(t.tensor([[1]])))
        plain.store_episode(episode(t.tensor([[1]])))
        for frame in (ddpg, sac, ppo):
            frame.store_episode(episode(t.tensor([[0.5]])))
        logger.info(f"{i}: dqn value_loss={dqn.update()}, lr {rates(dqn.qnet_optim)}")
        logger.info(f"{i}: plain value_loss={plain.update()}, lr {rates(plain.qnet_optim)}")
        logger.info(f"{i}: ddpg value_loss={ddpg.update()[1]}, lr {rates(ddpg.actor_optim)}")
        logger.info(f"{i}: sac value_loss={sac.update()[1]}, lr {rates(sac.critic_optim)}")
        logger.info(f"{i}: ppo value_loss={ppo.update()[1]}, lr {rates(ppo.critic_optim)}")
        for frame in (dqn, ddpg, sac, ppo, plain):
            frame.update_lr_scheduler()

    tenth = 0.1 if episodes >= 2 else 1.0
    assert abs(rates(dqn.qnet_optim)[0] - 0.01 * tenth) < 1e-9
    assert dqn.qnet_lr_sch.last_epoch == episodes
    assert abs(rates(ddpg.actor_optim)[0] - 1e-3 * 0.5**episodes) < 1e-12
    assert abs(rates(ddpg.critic_optim)[0] - 1e-2 * 0.25**episodes) < 1e-12
    for optimizer in (*sac.optimizers[1:], *ppo.optimizers):
        assert abs(rates(optimizer)[0] - 1e-3 * tenth) < 1e-9
    assert rates(plain.qnet_optim) == [1e-3]

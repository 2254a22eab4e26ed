"""Algorithms: Machin's classes, which also learn from any batch."""

from machin_fast.algorithms.a2c import A2C
from machin_fast.algorithms.base import TorchFramework
from machin_fast.algorithms.ddpg import DDPG
from machin_fast.algorithms.ddpg_per import DDPGPer
from machin_fast.algorithms.dqn import DQN
from machin_fast.algorithms.dqn_per import DQNPer
from machin_fast.algorithms.hddpg import HDDPG
from machin_fast.algorithms.ppo import PPO
from machin_fast.algorithms.rainbow import RAINBOW
from machin_fast.algorithms.sac import SAC
from machin_fast.algorithms.td3 import TD3
from machin_fast.algorithms.trpo import TRPO

__all__ = [
    "A2C",
    "DDPG",
    "DQN",
    "HDDPG",
    "PPO",
    "RAINBOW",
    "SAC",
    "TD3",
    "TRPO",
    "DDPGPer",
    "DQNPer",
    "TorchFramework",
]

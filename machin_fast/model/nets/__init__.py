"""Modules that know their devices, and networks."""

import machin_fast.model.nets.base as base
import machin_fast.model.nets.resnet as resnet
from machin_fast.model.nets.base import (
    NeuralNetworkModule,
    dynamic_module_wrapper,
    static_module_wrapper,
)
from machin_fast.model.nets.chain import Chain
from machin_fast.model.nets.critic import StateActionCritic
from machin_fast.model.nets.distributional import Distributional
from machin_fast.model.nets.dueling import Dueling
from machin_fast.model.nets.images import ImpalaCNN, NatureCNN
from machin_fast.model.nets.mlp import MLP
from machin_fast.model.nets.noisy import NoisyLinear, without_noise
from machin_fast.model.nets.observation import ChannelsFirst, Flat, Named, OneHot
from machin_fast.model.nets.recurrent import Recurrent
from machin_fast.model.nets.resnet import ResNet

__all__ = [
    "MLP",
    "Chain",
    "ChannelsFirst",
    "Distributional",
    "Dueling",
    "Flat",
    "ImpalaCNN",
    "Named",
    "NatureCNN",
    "NeuralNetworkModule",
    "NoisyLinear",
    "OneHot",
    "Recurrent",
    "ResNet",
    "StateActionCritic",
    "base",
    "dynamic_module_wrapper",
    "resnet",
    "static_module_wrapper",
    "without_noise",
]

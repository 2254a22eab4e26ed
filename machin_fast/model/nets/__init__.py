"""Modules that know their devices, and networks."""

import machin_fast.model.nets.base as base
import machin_fast.model.nets.resnet as resnet
from machin_fast.model.nets.base import (
    NeuralNetworkModule,
    dynamic_module_wrapper,
    static_module_wrapper,
)
from machin_fast.model.nets.resnet import ResNet

__all__ = [
    "NeuralNetworkModule",
    "ResNet",
    "base",
    "dynamic_module_wrapper",
    "resnet",
    "static_module_wrapper",
]

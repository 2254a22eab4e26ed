"""Batch and networks that machina's figures belong to, and its networks in float64.

machina (git f93bb6f, torch 2.13, float32) was run on these; its results agree to ``TOLERANCE``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def tensor(x: Any) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


OBS = tensor(
    [
        [-0.013, -0.682, -0.377], [-0.717, 0.912, -0.109], [0.525, 0.48, -0.806],
        [0.57, 0.349, 0.314], [-0.399, -0.427, 0.786], [2.182, -0.83, 0.534],
    ]
)  # fmt: skip
NEXT_OBS = tensor(
    [
        [-0.943, 0.725, 1.076], [0.097, -0.836, 0.096], [-0.24, 0.546, 0.118],
        [-0.622, 0.191, -1.179], [0.82, 1.182, -1.179], [0.421, -0.991, 1.072],
    ]
)  # fmt: skip
ACTION = tensor(
    [
        [-0.366, 0.785], [0.438, 1.06], [-2.795, -0.601],
        [-0.988, -0.108], [-0.724, -0.641], [0.682, 1.902],
    ]
)  # fmt: skip
REWARD = tensor([-2.824, -0.31, 0.312, 0.005, -0.345, -1.353])
DONE = tensor([0, 0, 1, 0, 0, 1])
ADVANTAGE = tensor([0.904, -0.23, 0.995, -0.431, -0.643, -0.569])
RETURN = tensor([-0.141, -0.323, 0.154, -0.615, 0.765, 1.021])
OLD_VALUE = tensor([-0.496, -1.427, 0.724, 1.139, -0.163, -1.287])
OLD_MEAN = tensor(
    [
        [0.0801, 0.4575], [-0.5628, 0.1434], [-0.0942, -0.2568],
        [0.1494, -0.3897], [0.0891, 0.3939], [0.0531, -0.2628],
    ]
)  # fmt: skip
OLD_LOG_STD = tensor(
    [
        [-1.1779, -1.1282001], [-1.1841, -0.84], [-1.0249, -1.1045001],
        [-1.1298, -1.1066999], [-1.0336, -1.1283], [-0.8324, -1.0747],
    ]
)  # fmt: skip
# Noise of two draws of actions at each observation, and at each next one.
NOISE = tensor(
    [
        [
            [-0.783, 0.308], [1.451, 1.324], [-0.488, 0.255],
            [0.149, 0.53], [0.256, -0.944], [-1.26, 0.176],
        ],
        [
            [-1.184, 1.363], [0.04, -1.026], [-0.322, -0.507],
            [-0.131, 0.946], [-1.444, -1.868], [0.338, -0.177],
        ],
    ]
)  # fmt: skip
NEXT_NOISE = tensor(
    [
        [
            [0.163, 0.445], [-0.181, 0.8], [-0.893, 0.064],
            [-0.831, -1.13], [0.615, 0.569], [-1.942, -1.122],
        ],
        [
            [0.292, 1.07], [-0.666, -0.184], [-1.413, 2.511],
            [0.475, 0.895], [0.658, 0.933], [0.608, -0.335],
        ],
    ]
)  # fmt: skip

POLICY = {
    "log_std": [-1.38, -0.745],
    "W": [[0.0095, 0.368, -0.5865], [0.644, -0.294, -0.054]],
    "b": [-0.1401, -0.0167],
}
VALUE = {"w": [0.814, -1.765, 0.377], "c": [1.46]}
Q1 = {
    "M": [
        [0.3195, -0.0065, 0.6965, 0.25, -0.362], [0.3025, 0.468, -0.284, -0.213, -1.1525],
        [0.4515, -0.294, -1.061, -0.8845, -0.1115], [0.3805, -0.0445, 0.236, -0.5505, -0.6705],
    ],
    "d": [0.0886, 0.0492, -0.0031, 0.1282],
    "u": [-0.951, -0.42, 1.026, 1.838],
}  # fmt: skip
Q2 = {
    "M": [
        [0.004, 0.84, -0.3015, 0.165, -0.087], [-0.794, 0.129, 0.4665, -0.074, -0.035],
        [0.6965, -0.625, -0.749, -0.327, -0.5985], [0.673, 0.155, -0.432, -0.307, 1.4305],
    ],
    "d": [-0.061, -0.0762, 0.0304, 0.0638],
    "u": [0.222, -0.909, -1.159, 0.596],
}  # fmt: skip
TARGET_Q1 = {
    "M": [
        [-0.027, -0.8205, 0.5855, 0.3875, -0.1205], [-0.13, 0.1155, -0.3435, -0.674, 0.1615],
        [-0.7195, 0.1955, -0.7205, -0.0495, -0.068], [0.8915, -0.532, -0.7075, -0.323, -0.562],
    ],
    "d": [-0.059, 0.0421, 0.0772, 0.166],
    "u": [-0.737, 2.639, 1.982, -0.204],
}  # fmt: skip
TARGET_Q2 = {
    "M": [
        [-1.1455, -0.0415, 0.0365, -1.1495, 0.037], [-0.1, -0.393, 0.3135, 0.5025, -0.243],
        [0.1145, -0.3275, -0.3935, 0.0395, 0.2615], [-0.2815, -1.107, 0.293, -0.7985, 0.061],
    ],
    "d": [0.1779, -0.0017, -0.119, -0.1461],
    "u": [1.17, -0.017, 0.54, 0.926],
}  # fmt: skip

Net = dict[str, Tensor]


def net(parameters: dict[str, Any]) -> Net:
    return {name: tensor(x).requires_grad_() for name, x in parameters.items()}


def policy(net: Net, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log_std of a Gaussian."""
    mean = torch.tanh(obs @ net["W"].T + net["b"])
    return mean, net["log_std"].expand_as(mean)


def value(net: Net, obs: Tensor) -> Tensor:
    return obs @ net["w"] + net["c"]


def q_value(net: Net, obs: Tensor, action: Tensor) -> Tensor:
    """``[..., batch]``"""
    obs = obs.expand(*action.shape[:-1], -1)
    return torch.tanh(torch.cat([obs, action], -1) @ net["M"].T + net["d"]) @ net["u"]


def check_gradient(loss: Tensor, net: Net, **want: Any) -> None:
    gradient = torch.autograd.grad(loss, [net[name] for name in want], retain_graph=True)
    for got, each in zip(gradient, want.values(), strict=True):
        torch.testing.assert_close(got, tensor(each), **TOLERANCE)

"""A process that learns, is killed and goes on in another one: see test_resume.py.

python resuming.py learn|resume FOLDER
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from machin_fast import algorithms
from machin_fast.data import Replay
from machin_fast.model import for_spaces
from machin_fast.utils.state_file import load_state, save_state

OBSERVATIONS, CONTINUOUS, DISCRETE = Box(-1, 1, (3,)), Box(-2, 2, (2,)), Discrete(2)
SPACES = {
    **dict.fromkeys(("DQN", "DQNPer", "RAINBOW", "A2C", "PPO", "TRPO"), DISCRETE),
    **dict.fromkeys(("DDPG", "DDPGPer", "HDDPG", "TD3", "SAC"), CONTINUOUS),
}
NAMES = {"DQNPer": "dqn_per", "DDPGPer": "ddpg_per"}


def make(name: str, seed: int) -> Any:
    """With a memory of each kind, learned temperature and the like."""
    torch.manual_seed(seed)
    actions = SPACES[name]
    networks = for_spaces(OBSERVATIONS, actions, NAMES.get(name, name.lower()))
    options: dict[str, Any] = {"batch_size": 8, "optimizer": torch.optim.Adam}
    if name == "RAINBOW":
        options.update(value_min=-1.0, value_max=1.0)
    else:
        options["criterion"] = nn.MSELoss()
    if name == "SAC":
        options["target_entropy"] = "auto"
    if name == "PPO":
        options["kl_target"] = 0.01
    if name in ("TD3", "RAINBOW"):
        priority = "step" if name == "RAINBOW" else None
        options["replay_buffer"] = Replay(100, priority=priority, seed=seed)
    return getattr(algorithms, name)(*networks, **options)


def store(algorithm: Any, name: str) -> None:
    """An episode that the policy itself made up."""
    steps = []
    state = torch.rand(1, 3)
    for i in range(10):
        if hasattr(algorithm, "act_discrete_with_noise") and SPACES[name] is DISCRETE:
            action = algorithm.act_discrete_with_noise({"state": state})
        elif hasattr(algorithm, "act_with_noise"):
            action = algorithm.act_with_noise({"state": state}, (0.0, 0.1), mode="normal")
        else:
            action = algorithm.act({"state": state})[0]
        following = torch.rand(1, 3)
        steps.append(
            {
                "state": {"state": state}, "action": {"action": action},
                "next_state": {"state": following}, "reward": random.random(),
                "terminal": i == 9,
            }
        )  # fmt: skip
        state = following
    algorithm.store_episode(steps)


def learn(algorithm: Any, name: str, rounds: int) -> list[Any]:
    found = []
    for _ in range(rounds):
        store(algorithm, name)
        found.append(algorithm.update())
    store(algorithm, name)  # what an algorithm on policy has not learned from yet
    return found


def main(what: str, folder: Path) -> None:
    torch.set_num_threads(1)
    losses = {}
    for name in SPACES:
        algorithm = make(name, seed=0 if what == "learn" else 7)
        path = folder / f"{name}.mft"
        if what == "learn":
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            learn(algorithm, name, 3)
            save_state(path, algorithm.state_dict(), kind="algorithm")
        else:
            algorithm.load_state_dict(load_state(path, kind="algorithm"))
        losses[name] = learn(algorithm, name, 3)
    (folder / what).write_text(json.dumps(losses))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

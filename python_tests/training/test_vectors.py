"""A trainer on our own vectors of environments: a resumed run is the whole one, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from machin_fast.algorithms import PPO
from machin_fast.env import ActorPool, NativeEnv
from machin_fast.model import for_spaces
from machin_fast.training import Settings, Trainer, seed_everything

Make = Callable[[], VectorEnv[Any, Any, Any]]


def run(make: Make, folder: Path, steps: int, *, resume: bool = False) -> list[torch.Tensor]:
    """The networks after so many steps."""
    seed_everything(7 if resume else 0)
    with closing(make()) as envs, closing(make()) as evaluation_envs:
        spaces = envs.single_observation_space, envs.single_action_space
        networks = for_spaces(*spaces, hidden=(16,))
        ppo = PPO(*networks, torch.optim.Adam, nn.MSELoss(), batch_size=32, epochs=2)
        settings = Settings(
            steps=steps, rollout=20, checkpoint_every=160, evaluation_every=80,
            evaluation_episodes=4,
        )  # fmt: skip
        trainer = Trainer(ppo, envs, settings, evaluation_envs=evaluation_envs, folder=folder)
        if resume:
            trainer.resume()
        trainer.train()
        return [*ppo.actor.parameters(), torch.tensor(trainer.progress.evaluations)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ActorPool("CartPole-v1", 4, num_workers=1, autoreset_mode="SameStep"),
        lambda: NativeEnv("CartPole-v1", 4, autoreset_mode="SameStep"),
        lambda: NativeEnv("CartPole-v1", 4, output="torch"),
    ],
    ids=["pool", "native", "native tensors"],
)
@pytest.mark.usefixtures("without_curve")
def test_resumed_runs_are_whole_ones(make: Make, tmp_path: Path) -> None:
    whole = run(make, tmp_path / "whole", 320)
    run(make, tmp_path / "resumed", 160)
    resumed = run(make, tmp_path / "resumed", 320, resume=True)
    assert all(torch.equal(x, y) for x, y in zip(whole, resumed, strict=True))
    assert len(whole[-1]) >= 4

"""``evaluate`` against single environments."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from machin_fast.training.evaluation import evaluate


def lean_left(state) -> torch.Tensor:
    return (state["state"][:, 2] > 0.02).long()


def single_return(seed: int) -> float:
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    total, done = 0.0, False
    while not done:
        action = int(lean_left({"state": torch.from_numpy(observation)[None]}))
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        done = terminated or truncated
    return total


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_each_environment_gives_the_return_of_one_episode(mode):
    envs = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 5, autoreset_mode=mode)
    returns = evaluate(envs, lean_left, seed=3)
    assert returns.tolist() == [single_return(3 + i) for i in range(5)]
    assert len(np.unique(returns)) > 1  # else it would prove little
    assert evaluate(envs, lean_left).tolist() != returns.tolist()
    assert evaluate(envs, lean_left, seed=3).tolist() == returns.tolist()


@pytest.mark.parametrize("envs", [1, 3, 7, 9])
def test_episodes_are_played_in_rounds_and_seeds_go_on(envs):
    vector = gymnasium.make_vec("CartPole-v1", envs, vectorization_mode="sync")
    returns = evaluate(vector, lean_left, episodes=7, seed=3)
    vector.close()
    assert returns.tolist() == [single_return(3 + i) for i in range(7)]


def test_there_must_be_an_episode():
    vector = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    with pytest.raises(ValueError, match="evaluate: episodes must be at least 1, got 0"):
        evaluate(vector, lambda state: torch.zeros(2, dtype=torch.int64), episodes=0)

"""``Collector`` against a plain loop over one environment at a time."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from machin_fast.collect import Collector

NUM_ENVS = 3


class Counting(gymnasium.Env):
    """Shows its number, the episode and the step; episodes end in turns of 1 to 4 steps."""

    action_space = Discrete(5)
    observation_space = Box(0, 1e6, (3,), np.float32)

    def __init__(self, number: int) -> None:
        self.number, self.episode = number, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        ended = self.t == 1 + (self.episode + self.number) % 4
        terminated, truncated = ended and self.episode % 2 == 0, ended and self.episode % 2 == 1
        return self._observe(), float(10 * self.t + action), terminated, truncated, {}

    def _observe(self):
        return np.array([self.number, self.episode, self.t], np.float32)


def choose(observation: torch.Tensor) -> torch.Tensor:
    """Any rule by which actions differ."""
    return (observation.sum(dim=1).long() * 7) % 5


def expected(number: int, steps: int) -> tuple[list[tuple], list[float]]:
    """Transitions of one environment, and the returns of its episodes."""
    env, transitions, returns = Counting(number), [], []
    state, _ = env.reset()
    total = 0.0
    for _ in range(steps):
        action = int(choose(torch.from_numpy(state)[None]))
        next_state, reward, terminated, truncated, _ = env.step(action)
        transitions.append(
            (state.tolist(), action, reward, next_state.tolist(), terminated, truncated)
        )
        total += reward
        state = next_state
        if terminated or truncated:
            returns.append(total)
            total = 0.0
            state, _ = env.reset()
    return transitions, returns


def make(mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([lambda i=i: Counting(i) for i in range(NUM_ENVS)], autoreset_mode=mode)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_transitions_are_those_of_a_plain_loop(mode, chunk):
    collector = Collector(make(mode), choose)
    rollouts = [collector.steps(chunk) for _ in range(40 // chunk)]
    returns = []
    for number in range(NUM_ENVS):
        transitions = []
        for rollout in rollouts:
            assert rollout.state.shape == (chunk, NUM_ENVS, 3)
            columns = (
                rollout.state, rollout.action, rollout.reward, rollout.next_state,
                rollout.terminated, rollout.truncated,
            )  # fmt: skip
            valid = rollout.valid[:, number]
            rows = (column[:, number][valid].tolist() for column in columns)
            transitions += zip(*rows, strict=True)
        wanted, all_returns = expected(number, len(transitions))
        assert transitions == wanted
        returns += all_returns
    assert sorted(x for r in rollouts for x in r.episode_returns) == sorted(returns)
    steps = chunk * len(rollouts) * NUM_ENVS
    valid_steps = sum(int(rollout.valid.sum()) for rollout in rollouts)
    assert valid_steps == steps if mode == AutoresetMode.SAME_STEP else valid_steps < steps


def test_the_seed_decides_the_start():
    def first_states(seed):
        envs = gymnasium.make_vec("CartPole-v1", num_envs=2)
        return Collector(envs, lambda o: torch.zeros(len(o), dtype=torch.int64), seed=seed).steps(3)

    assert torch.equal(first_states(1).state, first_states(1).state)
    assert not torch.equal(first_states(1).state, first_states(2).state)


def test_environments_that_do_not_reset_themselves_are_refused():
    with pytest.raises(
        ValueError, match=r"Collector: envs must reset themselves .*, got .*DISABLED"
    ):
        Collector(make(AutoresetMode.DISABLED), choose)


def test_observations_other_than_a_box_are_refused():
    envs = SyncVectorEnv([lambda: gymnasium.make("FrozenLake-v1")])
    with pytest.raises(ValueError, match=r"Collector: envs must have observations in a Box, got D"):
        Collector(envs, choose)

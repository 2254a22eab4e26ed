"""The pool gives what Gymnasium's SyncVectorEnv gives, whoever steps the environments."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from env.pool.same import assert_same
from env.pool.worlds import SPACES, RandomWorld

CREWS = [(0, True), (1, True), (2, True), (3, True), (1, False), (2, False), (3, False)]
N = 5


def both(make_pool, maker, workers=(1, True), mode=AutoresetMode.NEXT_STEP, **settings):
    """A pool and Gymnasium's vector of the same environments."""
    num_workers, step_in_parent = workers
    pool = make_pool(
        maker, N, num_workers=num_workers, step_in_parent=step_in_parent, autoreset_mode=mode,
        **settings,
    )  # fmt: skip
    return pool, SyncVectorEnv([maker] * N, autoreset_mode=mode)


def follow(pool, reference, steps: int = 40) -> None:
    """Both take the same way."""
    pool.action_space.seed(3)
    assert_same(pool.reset(seed=11), reference.reset(seed=11))
    for _ in range(steps):
        actions = pool.action_space.sample()
        found, wanted = pool.step(actions), reference.step(actions)
        assert_same(found, wanted)
        ended = wanted[2] | wanted[3]
        if ended.any() and reference.metadata["autoreset_mode"] is AutoresetMode.DISABLED:
            options = {"reset_mask": ended, "longer": 2}
            assert_same(pool.reset(options=dict(options)), reference.reset(options=options))
    assert_same(pool.reset(), reference.reset())


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("workers", CREWS)
def test_all_is_as_in_sync_vector_env(make_pool, workers, mode):
    maker = functools.partial(RandomWorld, SPACES["nested"], SPACES["tuple"])
    follow(*both(make_pool, maker, workers, mode))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("space", SPACES)
def test_all_spaces_are_as_in_sync_vector_env(make_pool, space, mode):
    maker = functools.partial(RandomWorld, SPACES[space], SPACES[space], infos=False)
    pool, reference = both(make_pool, maker, mode=mode)
    for name in (
        "observation_space", "action_space", "single_observation_space", "single_action_space",
        "metadata", "render_mode", "num_envs",
    ):  # fmt: skip
        assert getattr(pool, name) == getattr(reference, name)
    follow(pool, reference)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_registered_environments_are_as_in_sync_vector_env(make_pool, name):
    pool = make_pool(name, N, num_workers=1)
    follow(pool, SyncVectorEnv([functools.partial(gymnasium.make, name)] * N))


@pytest.mark.parametrize("workers", [(0, True), (2, True), (2, False)])
def test_calls_attributes_and_frames_are_as_in_sync_vector_env(make_pool, workers):
    maker = functools.partial(RandomWorld, render_mode="rgb_array")
    pool, reference = both(make_pool, maker, workers)
    for envs in (pool, reference):
        envs.reset(seed=[3, None, 5, 6, 7])
        envs.set_attr("difficulty", [1, 2, 3, 4, 5])
        envs.step(np.zeros(N, int))
    assert_same(pool.call("double", 4, plus=1), reference.call("double", 4, plus=1))
    assert_same(pool.get_attr("difficulty"), (1, 2, 3, 4, 5))
    pool.set_attr("difficulty", 7)
    assert pool.get_attr("difficulty") == (7,) * N
    assert_same(pool.render(), reference.render())
    assert [seed for i, seed in enumerate(pool.np_random_seed) if i != 1] == [3, 5, 6, 7]
    states = [rng.bit_generator.state for rng in reference.np_random]
    assert [pool.np_random[i].bit_generator.state == states[i] for i in (0, 2, 3, 4)] == [True] * 4
    assert pool.render_mode == reference.render_mode == "rgb_array"


def test_wrappers_of_gymnasium_work_on_it(make_pool):
    pool = make_pool("CartPole-v1", 4, num_workers=1)
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(pool)
    envs.reset(seed=1)
    for _ in range(100):
        *_, info = envs.step(np.zeros(4, int))
        if "episode" in info:
            break
    assert info["episode"]["l"].max() > 5


def test_recorded_statistics_of_single_environments_come_as_columns(make_pool):
    def maker() -> Any:
        return gymnasium.wrappers.RecordEpisodeStatistics(RandomWorld())

    pool, reference = both(make_pool, maker, mode=AutoresetMode.SAME_STEP)
    pool.reset(seed=2)
    reference.reset(seed=2)
    for _ in range(12):
        found, wanted = pool.step(np.zeros(N, int))[4], reference.step(np.zeros(N, int))[4]
        for infos in (found, wanted):
            infos.get("final_info", {}).get("episode", {}).pop("t", None)  # seconds
        assert_same(found, wanted)


@pytest.mark.parametrize("workers", [(0, True), (2, True)])
def test_spaces_may_differ_in_bounds_where_that_is_said(make_pool, workers):
    makers = [
        functools.partial(RandomWorld, gymnasium.spaces.Box(-i - 1.0, i + 1.0, (2,)))
        for i in range(4)
    ]
    with pytest.raises(RuntimeError, match="observation_space of environment 1 must be equal to"):
        make_pool(makers, num_workers=workers[0])
    pool = make_pool(makers, num_workers=workers[0], observation_mode="different")
    reference = SyncVectorEnv(makers, observation_mode="different")
    assert pool.observation_space == reference.observation_space
    follow(pool, reference)


def test_shapes_and_action_spaces_must_not_differ(make_pool):
    boxes = [functools.partial(RandomWorld, gymnasium.spaces.Box(0, 1, (i + 2,))) for i in range(2)]
    with pytest.raises(RuntimeError, match="observation_space of environment 1 must be like"):
        make_pool(boxes, num_workers=1, observation_mode="different")
    actions = [
        functools.partial(RandomWorld, action=gymnasium.spaces.Discrete(i + 2)) for i in range(2)
    ]
    with pytest.raises(RuntimeError, match="action_space of environment 1 must be Discrete"):
        make_pool(actions, num_workers=1)

"""Machin's wrappers of several environments, against the environments themselves."""

from __future__ import annotations

import os
import signal
import traceback

import gymnasium
import numpy as np
import pytest

from env.sparse import Faulty, Old
from machin_fast.env.utils.openai_gym import disable_view_window
from machin_fast.env.wrappers.openai_gym import (
    GymTerminationError,
    ParallelWrapperDummy,
    ParallelWrapperSubProc,
)

WRAPPERS = [ParallelWrapperDummy, ParallelWrapperSubProc]
NUM_ENVS = 3


@pytest.fixture(params=WRAPPERS)
def wrapper(request):
    creators = [lambda i: gymnasium.make("CartPole-v1")] * NUM_ENVS
    made = request.param(creators)
    yield made
    made.close()


def test_it_says_what_it_holds(wrapper):
    env = gymnasium.make("CartPole-v1")
    assert wrapper.size() == NUM_ENVS
    assert wrapper.action_space == env.action_space
    assert wrapper.observation_space == env.observation_space
    assert wrapper.active().tolist() == [0, 1, 2]


def test_seeds_decide_episodes(wrapper):
    assert wrapper.seed([5, 6, 7]) == [5, 6, 7]
    first = wrapper.reset()
    for seed, found in zip((5, 6, 7), first, strict=True):
        assert np.array_equal(found, gymnasium.make("CartPole-v1").reset(seed=seed)[0])
    assert wrapper.seed(5) == [5, 5, 5]
    assert all(np.array_equal(found, first[0]) for found in wrapper.reset())
    assert not np.array_equal(wrapper.reset()[0], first[0])  # a seed is for one reset
    assert len(set(wrapper.seed())) == NUM_ENVS
    with pytest.raises(ValueError, match=r"seed must have 3 entries, .*, got 2"):
        wrapper.seed([1, 2])


def test_some_are_stepped_and_the_others_wait(wrapper):
    wrapper.seed(5)
    wrapper.reset()
    alone = gymnasium.make("CartPole-v1")
    alone.reset(seed=5)
    wanted = [alone.step(1) for _ in range(3)]
    for observation, reward, *_ in wanted[:2]:
        found = wrapper.step([1, 1], [2, 0])
        assert np.array_equal(found[0][0], observation)
        assert np.array_equal(found[0][1], observation)
        assert found[1:] == ([reward] * 2, [False] * 2, [{}, {}])
    for number, step in ((1, 0), (2, 2)):
        found = wrapper.step([1], number)
        assert np.array_equal(found[0][0], wanted[step][0])
    assert wrapper.step([], []) == ([], [], [], [])
    assert len(wrapper.reset(1)) == 1
    assert len(wrapper.reset([0, 2])) == 2


def test_who_has_ended_is_not_active_until_reset(wrapper):
    wrapper.reset()
    terminal = False
    while not terminal:
        (_, _, (terminal,), _) = wrapper.step([1], 1)
    assert wrapper.active().tolist() == [0, 2]
    if isinstance(wrapper, ParallelWrapperDummy):
        with pytest.raises(GymTerminationError, match="reset"):
            wrapper.step([0] * 3)
        with pytest.raises(GymTerminationError):
            wrapper.render(1)
    else:
        wrapper.step([0] * 3)
    assert wrapper.active().tolist() == [0, 2]
    wrapper.reset(1)
    assert wrapper.active().tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", WRAPPERS)
def test_pictures_come_of_those_asked_for(kind):
    disable_view_window()
    wrapper = kind([Faulty] * 2 + [Old])
    assert [each.max() for each in wrapper.render([1, 0])] == [1, 0]
    assert [each.shape for each in wrapper.render()] == [(2, 2, 3)] * 3
    wrapper.close()


def test_pictures_must_have_been_asked_for_at_first(wrapper):
    with pytest.raises(ValueError, match=r'made with render_mode="rgb_array", got None'):
        wrapper.render(0)


def test_numbers_must_fit(wrapper):
    wrapper.reset()
    with pytest.raises(ValueError, match=r"action must have 2 entries, .*, got 3"):
        wrapper.step([0, 0, 0], [0, 1])
    with pytest.raises(IndexError, match=r"reset: idx must be in \[0, 3\), got 3"):
        wrapper.reset([1, 3])


@pytest.mark.parametrize("kind", WRAPPERS)
def test_an_old_environment_and_one_that_is_cut_short(kind):
    wrapper = kind([Old, lambda i: gymnasium.make("CartPole-v1", max_episode_steps=1)])
    assert wrapper.seed(3) == [3, 3]
    assert wrapper.reset()[0] == 3
    _, reward, terminal, info = wrapper.step([4, 1])
    assert (reward, terminal) == ([4.0, 1.0], [True, True])
    assert info[1] == {"TimeLimit.truncated": True}
    wrapper.close()


@pytest.mark.parametrize("kind", WRAPPERS)
def test_what_an_environment_raises_is_raised_here(kind):
    wrapper = kind([Faulty, Faulty])
    wrapper.reset()
    with pytest.raises(ZeroDivisionError) as caught:
        wrapper.step(["divide", "go on"])
    assert "divide_by_zero" in "".join(traceback.format_exception(caught.value))
    assert wrapper.step(["go on"] * 2)[1] == [2.0, 2.0] if kind is WRAPPERS[1] else True
    wrapper.close()


def test_what_cannot_be_sent_is_told():
    wrapper = ParallelWrapperSubProc([Faulty])
    wrapper.reset()
    with pytest.raises(RuntimeError, match="PeculiarError: of 2 arguments"):
        wrapper.step(["be peculiar"])
    with pytest.raises(Exception, match="pickle"):
        wrapper.step(["return a lambda"])
    assert wrapper.step(["go on"])[1] == [3.0]
    wrapper.close()


def test_a_creator_that_fails_leaves_no_process():
    def fail(i):
        raise OSError(f"no environment {i}")

    with pytest.raises(OSError, match="no environment 1"):
        ParallelWrapperSubProc([Faulty, fail])


def test_the_death_of_a_process_is_told_and_closing_works():
    wrapper = ParallelWrapperSubProc([Faulty, Faulty])
    wrapper.reset()
    os.kill(wrapper._processes[1].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"environment 1 must be alive, got .* exit code -9"):
        wrapper.step(["go on"] * 2)
    wrapper.close()
    wrapper.close()
    assert not any(process.is_alive() for process in wrapper._processes)
    with pytest.raises(ValueError, match="environments must be open, got closed ones"):
        wrapper.reset()


@pytest.mark.parametrize("kind", WRAPPERS)
def test_no_environment_is_none(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: env_creators must be at least 1"):
        kind([])

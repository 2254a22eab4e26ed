"""Rollouts that are collected where workers write them."""

from __future__ import annotations

import functools
import os
import signal

import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError
from gymnasium.vector import AutoresetMode

from env.pool.same import assert_same
from env.pool.worlds import SPACES, Counter, RandomWorld

CREWS = [(0, True), (1, True), (2, False)]
RESETTING = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def lengths() -> list[functools.partial[Counter]]:
    """Environments whose episodes end after 1, 2, 3, 7 and 50 steps."""
    return [functools.partial(Counter, length) for length in (1, 2, 3, 7, 50)]


@pytest.mark.parametrize("mode", RESETTING)
@pytest.mark.parametrize("crew", CREWS)
def test_a_rollout_holds_what_steps_give(make_pool, crew, mode):
    maker = functools.partial(RandomWorld, SPACES["nested"], SPACES["tuple"])
    settings = {"num_workers": crew[0], "step_in_parent": crew[1], "autoreset_mode": mode}
    pool, other = (make_pool(maker, 3, **settings) for _ in range(2))
    seen, _ = other.reset(seed=0)
    pool.reset(seed=0)
    block = pool.rollout(6)
    for _ in range(3):
        block.begin()
        for t in range(6):
            assert_same(take(block.observation, t), seen)
            actions = pool.action_space.sample()
            infos = block.step(actions)
            seen, reward, terminated, truncated, wanted = other.step(actions)
            assert_same(take(block.observation, t + 1), seen)
            assert_same(take(block.action, t), actions)
            found = block.reward[t], block.terminated[t], block.truncated[t], infos
            assert_same(found, (reward, terminated, truncated, wanted))
        assert len(block.infos) == 6
    # Steps outside go on from there, and so does the next rollout.
    actions = pool.action_space.sample()
    seen = other.step(actions)[0]
    assert_same(pool.step(actions)[0], seen)
    block.begin()
    assert_same(take(block.observation, 0), seen)


def take(tree, t):
    if isinstance(tree, dict):
        return {key: take(part, t) for key, part in tree.items()}
    return tuple(take(part, t) for part in tree) if isinstance(tree, tuple) else tree[t]


@pytest.mark.parametrize(
    ("mode", "way"),
    [*((mode, "step") for mode in AutoresetMode), *((mode, "rollout") for mode in RESETTING)],
)
def test_no_transition_crosses_the_end_of_an_episode(make_pool, mode, way):
    """Ten thousand steps of environments that count, of episodes of 1 to 50 steps."""
    pool = make_pool(lengths(), num_workers=1, autoreset_mode=mode)
    last, _ = pool.reset(seed=0)
    block = pool.rollout(50)
    resetting, transitions, ends = np.zeros(5, bool), 0, 0
    for _ in range(40):
        if way == "rollout":
            block.begin()
        valid = []
        for t in range(50):
            actions = np.arange(5) + t
            if way == "rollout":
                info = block.step(actions)
                last, seen = block.observation[t], block.observation[t + 1]
                reward, terminated = block.reward[t], block.terminated[t]
                ended = terminated | block.truncated[t]
            else:
                seen, reward, terminated, truncated, info = pool.step(actions)
                ended = terminated | truncated
            following = seen.copy()
            if mode is AutoresetMode.SAME_STEP and ended.any():
                following[ended] = np.stack(info["final_obs"][ended])
            valid.append(~resetting)
            moved = following[~resetting]
            assert (moved[:, 1] == last[~resetting, 1] + 1).all()
            assert (moved[:, 2] == actions[~resetting]).all()
            assert (reward[~resetting] == moved[:, 1]).all()
            assert (terminated == (~resetting & (following[:, 1] == [1, 2, 3, 7, 50]))).all()
            transitions, ends = transitions + len(moved), ends + ended.sum()
            resetting = ended & (mode is AutoresetMode.NEXT_STEP)
            last = seen
            if mode is AutoresetMode.DISABLED and ended.any():
                last, _ = pool.reset(options={"reset_mask": ended})
        if way == "rollout":
            np.testing.assert_array_equal(block.valid, valid)
    assert transitions > 6000 and ends > 2000


def test_tensors_of_a_rollout_are_views_of_it(make_pool):
    pool = make_pool(lengths(), num_workers=1)
    pool.reset(seed=0)
    block = pool.rollout(4)
    tensors = block.tensors
    block.begin()
    for t in range(4):
        block.step(np.full(5, t))
    assert tensors.observation.shape == (5, 5, 3)
    assert tensors.observation.data_ptr() == block.observation.ctypes.data
    assert tensors.action.tolist() == [[t] * 5 for t in range(4)]
    assert tensors.reward.tolist() == block.reward.tolist()
    assert tensors.terminated.tolist() == block.terminated.tolist()
    assert block.tensors is tensors


def test_what_was_collected_stays_until_the_next_rollout(make_pool):
    pool = make_pool(lengths(), num_workers=1)
    pool.reset(seed=0)
    one, other = pool.rollout(3), pool.rollout(2)
    one.begin()
    for _ in range(3):
        one.step(np.full(5, 4))
    kept = one.observation.copy(), one.action.copy(), one.reward.copy()
    other.begin()
    other.step(np.full(5, 9))
    pool.step(np.full(5, 8))
    pool.reset(seed=7)
    pool.step(np.full(5, 8))
    assert_same((one.observation, one.action, one.reward), kept)
    pool.close()
    assert_same((one.observation, one.action, one.reward), kept)


@pytest.mark.parametrize("crew", CREWS)
def test_halves_fill_a_rollout_while_the_other_half_steps(make_pool, crew):
    pool = make_pool(Counter, 4, num_workers=crew[0], step_in_parent=crew[1])
    pool.reset(seed=0)
    block = pool.rollout(5)
    halves = np.array([0, 1]), np.array([2, 3])
    for _ in range(2):
        first = pool.get_attr("t")[0]
        block.begin()
        for half in halves:
            block.send(half * 10, half)
        for t in range(5):
            for half in halves:
                env_ids, steps, infos = block.recv(env_ids=half)
                assert env_ids.tolist() == half.tolist() and steps.tolist() == [t, t]
                assert infos == {}
                assert block.observation[t + 1, half, 1].tolist() == [first + t + 1] * 2
                if t < 4:
                    block.send(half * 10 + t + 1, half)
        assert block.action.tolist() == [[t, 10 + t, 20 + t, 30 + t] for t in range(5)]
        assert block.observation[1:, :, 2].tolist() == block.action.tolist()
        assert block.valid.all()
    assert pool.step([7] * 4)[0].tolist() == [[i, 11, 7] for i in range(4)]


def test_a_lost_episode_is_cut_in_a_rollout_too(make_pool):
    pool = make_pool(Counter, 2, num_workers=1, on_worker_death="restart")
    pool.reset(seed=0)
    block = pool.rollout(6)
    block.begin()
    for t in range(6):
        if t == 3:
            os.kill(pool.workers[0].pid, signal.SIGKILL)
        block.step([t, t])
    assert block.truncated[:, 1].tolist() == [False] * 3 + [True] + [False] * 2
    assert block.valid[:, 1].tolist() == [True] * 4 + [False, True]
    assert block.observation[:, 1, 1].tolist() == [0, 1, 2, 3, 3, 0, 1]
    assert block.reward[:, 1].tolist() == [1, 2, 3, 0, 0, 1]
    assert block.infos[3]["worker_restarted"].tolist() == [False, True]
    assert block.observation[:, 0, 1].tolist() == list(range(7))
    assert not block.truncated[:, 0].any()


def test_calls_out_of_turn_are_refused(make_pool):
    pool = make_pool(Counter, 2, num_workers=1)
    pool.reset(seed=0)
    block = pool.rollout(2)
    with pytest.raises(RuntimeError, match=r"RolloutBlock\.step: the block must be begun"):
        block.step([0, 0])
    block.begin()
    block.step([0, 0])
    block.step([0, 0])
    with pytest.raises(IndexError, match=r"RolloutBlock\.step: steps must be at most 2"):
        block.step([0, 0])
    block.begin()
    with pytest.raises(ValueError, match="actions must have shape"):
        block.step([0])
    block.send([1], [1])
    for call in (lambda: pool.step([0, 0]), block.begin, lambda: pool.send([1], [0]), pool.recv):
        with pytest.raises(AlreadyPendingCallError):
            call()
    with pytest.raises(AlreadyPendingCallError):
        block.step([0, 0])
    block.recv()
    with pytest.raises(RuntimeError, match="environments must be at the same step"):
        block.step([0, 0])
    block.send([1], [1])
    block.recv()
    with pytest.raises(IndexError, match="one more of environment 1"):
        block.send([1], [1])
    pool.reset()
    with pytest.raises(RuntimeError, match=r"RolloutBlock\.send: the block must be begun"):
        block.send([1], [1])
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        pool.rollout(0)
    pool.close()
    for call in (block.begin, lambda: block.step([0, 0]), lambda: block.recv()):
        with pytest.raises(ClosedEnvironmentError):
            call()

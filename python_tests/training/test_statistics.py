"""Statistics of wrappers that normalise."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from gymnasium.wrappers import vector as around

from machin_fast.training import put_statistics, take_statistics
from machin_fast.utils.state_file import load_state, save_state


def within(n: int) -> SyncVectorEnv:
    return SyncVectorEnv(
        [lambda: NormalizeReward(NormalizeObservation(gymnasium.make("CartPole-v1")))] * n
    )


def plain(n: int) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * n)


def in_workers(n: int) -> AsyncVectorEnv:
    return AsyncVectorEnv(
        [lambda: NormalizeObservation(gymnasium.make("CartPole-v1"))] * n, context="spawn"
    )


def outside(n: int) -> VectorEnv[Any, Any, Any]:
    return around.NormalizeReward(around.NormalizeObservation(plain(n)))


def play(envs: Any, steps: int = 30, seed: int = 0) -> list[Any]:
    envs.reset(seed=seed)
    n = getattr(envs, "num_envs", None)
    action = 0 if n is None else np.zeros(n, np.int64)
    found = []
    for i in range(steps):
        observation, reward, *ended, _ = envs.step(action)
        found.append((np.array(observation), np.array(reward)))
        if n is None and any(ended):
            envs.reset(seed=seed + i)
    return found


def same(a: list[Any], b: list[Any]) -> bool:
    return all(np.array_equal(x, y) for one, two in zip(a, b, strict=True)
               for x, y in zip(one, two, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda: within(3),
        lambda: outside(3),
        lambda: NormalizeReward(NormalizeObservation(gymnasium.make("CartPole-v1"))),
    ],
    ids=["within", "around", "single"],
)
def test_others_go_on_alike_bit_for_bit(make: Any, tmp_path: Any) -> None:
    first, second = make(), make()
    play(first, seed=3)
    save_state(tmp_path / "s", take_statistics(first), kind="k")
    put_statistics(second, load_state(tmp_path / "s", kind="k"))
    assert same(play(first), play(second))
    assert not same(play(first), play(make()))


def test_statistics_in_workers_travel(tmp_path: Any) -> None:
    first = in_workers(2)
    second = SyncVectorEnv([lambda: NormalizeObservation(gymnasium.make("CartPole-v1"))] * 2)
    try:
        play(first, seed=3)
        state = take_statistics(first)
        put_statistics(second, state)
        assert same(play(first), play(second))
        put_statistics(first, state, frozen=True)  # a class of ours, in a worker
        before = take_statistics(first)
        play(first)
        np.testing.assert_equal(take_statistics(first), before)
    finally:
        first.close()


@pytest.mark.parametrize(
    ("make", "judge"),
    [
        (within, lambda: SyncVectorEnv(
            [lambda: NormalizeObservation(gymnasium.make("CartPole-v1"))] * 2)),
        (outside, lambda: around.NormalizeObservation(plain(2))),
    ],
    ids=["within", "around"],
)  # fmt: skip
def test_evaluation_sees_what_training_shows_and_changes_nothing(make: Any, judge: Any) -> None:
    envs, judges = make(3), judge()
    play(envs)
    put_statistics(judges, take_statistics(envs), frozen=True)
    before = take_statistics(judges)
    seen, raw = play(judges), play(plain(2))
    np.testing.assert_equal(take_statistics(judges), before)
    numbers = before["around"][0] if before["around"] else before["within"]
    rms = numbers["obs_rms"] if before["around"] else numbers["obs_rms"][0]
    for (observation, reward), (plain_observation, plain_reward) in zip(seen, raw, strict=True):
        shown = (plain_observation - rms["mean"]) / np.sqrt(rms["var"] + 1e-8)
        np.testing.assert_allclose(observation, shown, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(reward, plain_reward)


class Running(VectorWrapper):
    """One of a user's own."""

    count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Any) -> None:
        self.count = state["count"]


def test_wrappers_of_ones_own_keep_their_state() -> None:
    first, second = Running(plain(1)), Running(plain(2))
    first.count = 7
    put_statistics(second, take_statistics(first))
    assert second.count == 7


def test_pooled_statistics_are_those_of_all_that_was_seen() -> None:
    envs = SyncVectorEnv([lambda: NormalizeObservation(gymnasium.make("CartPole-v1"))] * 3)
    raw = np.concatenate([observation for observation, _ in play(plain(3), 200)])
    play(envs, 200)
    judge = NormalizeObservation(gymnasium.make("CartPole-v1"))
    put_statistics(judge, take_statistics(envs), frozen=True)
    # The wrapper starts from a ten-thousandth of an observation, and sees those of resets.
    np.testing.assert_allclose(judge.obs_rms.mean, raw.mean(0), atol=0.02)
    np.testing.assert_allclose(judge.obs_rms.var, raw.var(0), rtol=0.05)


def test_other_wrappers_are_refused() -> None:
    state = take_statistics(within(2))
    with pytest.raises(ValueError, match="must be in wrappers that keep obs_rms, got none"):
        put_statistics(plain(2), state)
    with pytest.raises(ValueError, match="must be in wrappers that keep obs_rms, got none"):
        put_statistics(plain(2), state, frozen=True)
    with pytest.raises(ValueError, match="envs must be 2, as those of the state, got 3"):
        put_statistics(within(3), state)
    state = take_statistics(outside(2))
    with pytest.raises(ValueError, match=r"must be in 2 wrappers that normalise, .* got 0"):
        put_statistics(plain(2), state)
    with pytest.raises(ValueError, match=r"NormalizeReward must keep return_rms, .* got obs_rms"):
        put_statistics(
            around.NormalizeReward(around.NormalizeObservation(plain(2))),
            {**state, "around": state["around"][::-1]},
        )

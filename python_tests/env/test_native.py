"""Native environments, side by side with Gymnasium's SyncVectorEnv."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from machin_fast.env import NativeEnv, native
from machin_fast.ops.native_envs import ELAPSED, EPISODE, SIZES

ENVS = sorted(SIZES)
MODES = list(AutoresetMode)


def sync(env_id: str, n: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: gymnasium.make(env_id)] * n, autoreset_mode=mode)


def put(gym_env: gymnasium.Env[Any, Any], state: np.ndarray[Any, Any]) -> None:
    env: Any = gym_env.unwrapped
    env.state = tuple(state) if env.spec.id == "MountainCar-v0" else state.copy()


def random_actions(env: NativeEnv, seed: int) -> Iterator[Any]:
    env.action_space.seed(seed)
    while True:
        yield env.action_space.sample()


def push(env: NativeEnv, observation: Any) -> Any:
    """Actions that bring each environment to its end, so that all ways to end are seen."""
    kind = env.spec.id
    if kind == "CartPole-v1":  # some hold the pole for long
        lean = observation[:, 2] + 0.5 * observation[:, 3] + 0.1 * observation[:, 1]
        careful = np.arange(env.num_envs) % 2 == 0
        return np.where(careful, lean > 0, lean > -0.1).astype(np.int64)
    if kind == "Acrobot-v1":
        return np.where(observation[:, 4] > 0, 0, 2)
    if kind == "Pendulum-v1":
        return np.sign(observation[:, 2:]).astype(np.float32)
    forward = observation[:, 1] >= 0
    if kind == "MountainCar-v0":
        return np.where(forward, 2, 0)
    return np.where(forward, 1.0, -1.0).astype(np.float32)[:, None]


# -- it is Gymnasium's


@pytest.mark.parametrize("env_id", ENVS)
def test_it_presents_itself_as_gymnasiums(env_id: str) -> None:
    ours, theirs = NativeEnv(env_id, 3), sync(env_id, 3)
    for name in (
        "single_observation_space", "single_action_space", "observation_space", "action_space",
        "num_envs",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.spec == gymnasium.spec(env_id)
    assert ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, infos = ours.reset(seed=0)
    assert ours.observation_space.contains(observation)
    assert infos == {}
    assert repr(ours) == f"NativeEnv({env_id}, num_envs=3)"


@pytest.mark.parametrize("env_id", ENVS)
def test_whole_episodes_are_gymnasiums(env_id: str) -> None:
    """From the same beginning with the same actions, without looking at each other in between."""
    ours, theirs = NativeEnv(env_id, 4), sync(env_id, 4)
    observation, _ = ours.reset(seed=3)
    theirs.reset(seed=0)
    for i, env in enumerate(theirs.envs):
        put(env, ours.state[:, i].numpy())
    alive = np.ones(4, bool)
    for step in range(ours.max_episode_steps):
        action = push(ours, observation)
        observation, *got = ours.step(action)
        seen, *want = theirs.step(action)
        # Acrobot's motion is chaotic: the last bits of sines double every few steps.
        close = 1e-6 if env_id != "Acrobot-v1" or step < 100 else 1e-3
        assert np.abs(observation - seen)[alive].max() <= close, step
        for x, y in zip(got[:3], want[:3], strict=True):
            np.testing.assert_allclose(x[alive], y[alive], atol=close, rtol=close)
        alive &= ~(got[1] | got[2])
        if not alive.any():
            return
    raise AssertionError("an episode had no end")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", ENVS)
def test_modes_are_sync_vector_envs(env_id: str, mode: AutoresetMode) -> None:
    """Each step from our state, through many ends of episodes: every flag and info agrees."""
    n = 4
    ours, theirs = NativeEnv(env_id, n, autoreset_mode=mode), sync(env_id, n, mode)
    observation, _ = ours.reset(seed=5)
    theirs.reset(seed=0)
    ends = 0
    for _ in range(450):
        for i, env in enumerate(theirs.envs):
            put(env, ours.state[:, i].numpy())
        episodes = ours.counters[EPISODE].clone()
        action = push(ours, observation)
        observation, *got, infos = ours.step(action)
        seen, *want, their_infos = theirs.step(action)
        same = (ours.counters[EPISODE] == episodes).numpy()  # else it began at random
        np.testing.assert_allclose(observation[same], seen[same], atol=1e-6, rtol=0)
        for x, y in zip(got, want, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6, rtol=1e-6)
        assert infos.keys() == their_infos.keys()
        if infos:
            assert infos["final_info"] == their_infos["final_info"] == {}
            for key in ("_final_obs", "_final_info"):
                assert np.array_equal(infos[key], their_infos[key])
            for x, y in zip(infos["final_obs"], their_infos["final_obs"], strict=True):
                assert (x is None) == (y is None)
                assert x is None or np.abs(x - y).max() <= 1e-6
        over = got[1] | got[2]
        ends += int(over.sum())
        if mode is AutoresetMode.DISABLED and over.any():
            observation, _ = ours.reset(options={"reset_mask": over})
            theirs.reset(options={"reset_mask": over.copy()})
    assert ends >= n


def test_gymnasiums_wrappers_fit() -> None:
    env = RecordEpisodeStatistics(NativeEnv("MountainCar-v0", 2))
    env.reset(seed=0)
    for _ in range(200):
        *_, infos = env.step(np.array([1, 1]))
    assert infos["episode"]["r"].tolist() == [-200, -200]
    assert infos["episode"]["l"].tolist() == [200, 200]


# -- seeds


def rollout(env: NativeEnv, steps: int, **reset: Any) -> np.ndarray[Any, Any]:
    actions = random_actions(env, 0)
    first, _ = env.reset(**reset)
    return np.stack([first, *(env.step(next(actions))[0] for _ in range(steps))])


def test_a_seed_gives_the_same_episodes() -> None:
    first = rollout(NativeEnv("CartPole-v1", 6), 100, seed=1)
    env = NativeEnv("CartPole-v1", 6)
    assert np.array_equal(first, rollout(env, 100, seed=1))
    assert np.array_equal(first, rollout(env, 100, seed=1))
    assert not np.array_equal(first, rollout(env, 100))  # goes on
    assert not np.array_equal(first, rollout(env, 100, seed=2))
    assert len(np.unique(first[0], axis=0)) == 6


def test_an_environment_is_the_same_among_any_others() -> None:
    few, many = NativeEnv("Pendulum-v1", 3), NativeEnv("Pendulum-v1", 20)
    one, other = few.reset(seed=9)[0], many.reset(seed=9)[0]
    assert np.array_equal(one, other[:3])


def test_each_environment_may_have_its_own_seed() -> None:
    env = NativeEnv("CartPole-v1", 3)
    first, _ = env.reset(seed=[4, 5, 6])
    second, _ = env.reset(seed=[6, None, 4])
    assert np.array_equal(second[[2, 0]], first[[0, 2]])
    assert not np.array_equal(second[1], first[1])
    # Without a seed anything may come; two environments never begin alike.
    unseeded = [NativeEnv("CartPole-v1", 3).reset()[0] for _ in range(2)]
    assert not np.array_equal(*unseeded)


def test_a_masked_reset_leaves_the_others() -> None:
    env = NativeEnv("CartPole-v1", 3, autoreset_mode="Disabled")
    env.reset(seed=0)
    before, *_ = env.step(np.array([0, 1, 0]))
    mask = np.array([False, True, False])
    after, _ = env.reset(seed=7, options={"reset_mask": mask})
    assert np.array_equal(after[~mask], before[~mask])
    assert not np.array_equal(after[mask], before[mask])
    assert env.counters[ELAPSED].tolist() == [1, 0, 1]


def test_bounds_say_where_episodes_begin() -> None:
    cart = NativeEnv("CartPole-v1", 50)
    observation, _ = cart.reset(seed=0, options={"low": 0.1, "high": 0.2})
    assert observation.min() >= 0.1 and observation.max() <= 0.2
    pendulum = NativeEnv("Pendulum-v1", 50)
    pendulum.reset(seed=0, options={"x_init": 0.5, "y_init": 0})
    assert pendulum.state[0].abs().max() <= 0.5 and (pendulum.state[1] == 0).all()


# -- results


def test_results_that_someone_has_are_not_written_again() -> None:
    env = NativeEnv("CartPole-v1", 2, autoreset_mode="SameStep")
    env.reset(seed=0)
    actions = random_actions(env, 0)
    held, copies = [], []
    for _ in range(60):
        observation, reward, terminated, truncated, infos = env.step(next(actions))
        # Whole arrays, views of them, and tensors that share their memory.
        some = [observation[0], torch.from_numpy(reward), terminated[:1], memoryview(truncated)]
        some += [x for x in infos.get("final_obs", ()) if x is not None]
        held.append(some)
        copies.append([np.array(x) for x in some])
    for some, copy in zip(held, copies, strict=True):
        for x, y in zip(some, copy, strict=True):
            assert np.array_equal(np.asarray(x), y)


def test_results_that_nobody_has_are_used_again() -> None:
    env = NativeEnv("CartPole-v1", 2)
    env.reset(seed=0)
    places = set()
    for _ in range(20):
        results = env.step(np.array([0, 1]))
        places.add(results[0].__array_interface__["data"][0])
    assert len(places) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_tensors_hold_what_arrays_do(
    env_id: str, mode: AutoresetMode, device: torch.device
) -> None:
    arrays = NativeEnv(env_id, 5, autoreset_mode=mode)
    tensors = NativeEnv(env_id, 5, autoreset_mode=mode, device=device, output="torch")
    want, _ = arrays.reset(seed=0)
    got, _ = tensors.reset(seed=0)
    assert got.device.type == device.type
    assert np.array_equal(want, got.cpu())
    actions = random_actions(arrays, 0)
    for _ in range(8):
        action = next(actions)
        *want, infos = arrays.step(action)
        *got, tensor_infos = tensors.step(torch.from_numpy(action).to(device))
        for x, y in zip(want, got, strict=True):
            assert y.device.type == device.type
            assert np.array_equal(x, y.cpu())
        if mode is AutoresetMode.SAME_STEP:
            over = tensor_infos["_final_obs"].cpu().numpy()
            assert np.array_equal(over, want[2] | want[3])
            for i in over.nonzero()[0]:
                last = tensor_infos["final_obs"][i].cpu()
                assert np.array_equal(infos["final_obs"][i], last)
        else:
            assert tensor_infos == {}


def test_it_steps_the_same_without_direct_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    want = rollout(NativeEnv("CartPole-v1", 5, autoreset_mode="SameStep"), 50, seed=0)
    monkeypatch.setattr(native, "direct_calls", False)
    env = NativeEnv("CartPole-v1", 5, autoreset_mode="SameStep")
    assert np.array_equal(want, rollout(env, 50, seed=0))
    with pytest.raises(ValueError, match=r"got 7 at position 0"):
        env.step(np.full(5, 7))


def test_inference_mode_changes_nothing() -> None:
    want = rollout(NativeEnv("CartPole-v1", 3), 20, seed=0)
    with torch.inference_mode():
        env = NativeEnv("CartPole-v1", 3)
        assert np.array_equal(want, rollout(env, 20, seed=0))
    assert np.array_equal(want, rollout(env, 20, seed=0))


@pytest.mark.parametrize("env_id", ENVS)
def test_it_goes_on_from_a_state_dict(env_id: str) -> None:
    env = NativeEnv(env_id, 4, max_episode_steps=15)
    rollout(env, 20, seed=0)
    saved, actions = env.state_dict(), [env.action_space.sample() for _ in range(40)]
    seen = env.observe()
    want = [env.step(action)[0] for action in actions]
    other = NativeEnv(env_id, 4, max_episode_steps=15)
    other.load_state_dict(saved)
    assert np.array_equal(other.observe(), seen)
    assert np.array_equal(want, [other.step(action)[0] for action in actions])


# -- what is refused


def refused(error: type[Exception], text: str) -> Any:
    return pytest.raises(error, match="^" + re.escape(f"NativeEnv{text}"))


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES)
def test_a_bad_action_is_named_and_changes_nothing(output: Any, mode: AutoresetMode) -> None:
    def actions(*values: Any, dtype: Any = None) -> Any:
        array = np.array(values, dtype)
        return torch.from_numpy(array) if output == "torch" else array

    env = NativeEnv("CartPole-v1", 3, output=output, autoreset_mode=mode)
    env.reset(seed=0)
    before = env.state_dict()
    rule = "actions of CartPole-v1 must be"
    for bad in (7, -1, 2, 2**62):
        with refused(ValueError, f".step: {rule} in [0, 2), got {bad} at position 2"):
            env.step(actions(0, 1, bad))
    with refused(ValueError, ".step: actions of 3 CartPole-v1 must have shape (3,), got (2,)"):
        env.step(actions(0, 1))
    with refused(ValueError, ".step: actions of 3 CartPole-v1 must have shape (3,), got (3, 1)"):
        env.step(actions([0], [1], [1]))
    with refused(ValueError, ".step: actions of 3 CartPole-v1 must have shape (3,), got ()"):
        env.step(np.int64(1))
    for dtype in ("float32", "float64", "bool"):
        with refused(TypeError, f".step: {rule} integers, got "):
            env.step(actions(0, 1, 1, dtype=dtype))
    for name, x in env.state_dict().items():
        assert torch.equal(x, before[name])
    env.step(actions(0, 1, 1, dtype="uint8"))
    env.step([0, 1, 1])

    pendulum = NativeEnv("Pendulum-v1", 2, output=output, autoreset_mode=mode)
    pendulum.reset(seed=0)
    before = pendulum.state_dict()
    rule = "actions of Pendulum-v1 must be"
    for value, shown in ((np.nan, "nan"), (np.inf, "inf"), (1e300, "inf")):
        with refused(ValueError, f".step: {rule} finite, got {shown} at position 1"):
            pendulum.step(actions([0.0], [value]))
    with refused(ValueError, ".step: actions of 2 Pendulum-v1 must have shape (2, 1), got (2,)"):
        pendulum.step(actions(0.0, 1.0))
    with refused(TypeError, f".step: {rule} floating point numbers, got "):
        pendulum.step(actions([0], [1]))
    for name, x in pendulum.state_dict().items():
        assert torch.equal(x, before[name])
    pendulum.step(actions([0.5], [-9.0]))


def test_a_finished_episode_waits_for_its_reset_where_nothing_else_resets() -> None:
    env = NativeEnv("MountainCar-v0", 2, autoreset_mode="Disabled", max_episode_steps=2)
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.array([0, 0]))
    before = env.state.clone()
    with refused(ResetNeeded, ".step: every episode must go on, got one that is over at position"):
        env.step(np.array([0, 0]))
    assert torch.equal(env.state, before)
    env.reset(options={"reset_mask": np.array([True, True])})
    env.step(np.array([0, 0]))


def test_bad_resets_are_named() -> None:
    env = NativeEnv("CartPole-v1", 3)
    with refused(ResetNeeded, ".step: all environments must be reset first"):
        env.step(np.zeros(3, int))
    mask = np.array([True, False, False])
    with refused(ResetNeeded, ".reset: the first one must be of all environments"):
        env.reset(options={"reset_mask": mask})
    first, _ = env.reset(seed=0)
    for bad, text in (
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"seed": [1, 2]}, "seed must have 3 entries, got 2"),
        ({"seed": [1, 2, -3]}, "seed must not be negative, got -3"),
        ({"options": {"reset_mask": mask[:2]}}, "reset_mask must have shape (3,) and choose some"),
        ({"options": {"reset_mask": mask & False}}, "reset_mask must have shape (3,) and choose"),
        ({"options": {"x_init": 1}}, "options of CartPole-v1 must be reset_mask, low or high, got"),
        ({"options": {"low": 1}}, "options must give bounds that ascend, got 1.0 and 0.05"),
    ):
        with refused(ValueError, f".reset: {text}"):
            env.reset(**bad)
    with refused(TypeError, ".reset: reset_mask must be bool, got int64"):
        env.reset(options={"reset_mask": np.array([1, 0, 0])})
    assert np.array_equal(env.observe(), first)


def test_bad_constructions_are_named() -> None:
    for arguments, text in (
        ({"env_id": "Ant-v5"}, "env_id must be one of CartPole-v1, Pendulum-v1"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, or -1, got 0"),
        ({"render_mode": "human"}, "render_mode must be None, got 'human'"),
        ({"output": "jax"}, "output must be 'numpy' or 'torch', got 'jax'"),
        ({"device": "meta", "output": "numpy"}, "output must be 'torch' on meta, got 'numpy'"),
    ):
        with refused(ValueError, f": {text}"):
            NativeEnv(**{"env_id": "CartPole-v1"} | arguments)
    env = NativeEnv("CartPole-v1", 3)
    with refused(NotImplementedError, ".render: native environments draw nothing"):
        env.render()


def test_a_foreign_state_dict_is_refused() -> None:
    env = NativeEnv("CartPole-v1", 3)
    env.reset(seed=0)
    before = env.state_dict()
    with refused(ValueError, ".load_state_dict: state must have ['counters', 'state'], got []"):
        env.load_state_dict({})
    other = NativeEnv("CartPole-v1", 4).state_dict()
    with refused(ValueError, ".load_state_dict: state must be torch.float64 of shape (4, 3), got"):
        env.load_state_dict(other)
    for name, x in env.state_dict().items():
        assert torch.equal(x, before[name])


def test_a_closed_one_says_so() -> None:
    env = NativeEnv("CartPole-v1", 3)
    env.reset(seed=0)
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step(np.zeros(3, int))):
        with pytest.raises(ClosedEnvironmentError, match="it must be open, got it closed"):
            call()

"""Stepping Gymnasium's classic environments, against Gymnasium's own."""

from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from machin_fast.ops import native_envs_new, native_envs_reset_, native_envs_step_
from machin_fast.ops.native_envs import EPISODE, FINISHED, SEED, SIZES

OPS = torch.ops.machin_fast
ENVS = sorted(SIZES)
# Envs around the lanes of a pack and the threads of a block.
COUNTS = [0, 1, 7, 8, 9, 63, 64, 65, 300]


def begun(env: str, envs: int, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
    state, counters = native_envs_new(env, envs, device=device)
    counters[SEED] = torch.arange(seed, seed + envs)
    native_envs_reset_(env, state, counters)
    return state, counters


def actions(env: str, envs: int, random: torch.Generator, device: torch.device) -> Tensor:
    if SIZES[env].actions:
        return torch.randint(SIZES[env].actions, (envs,), generator=random).to(device)
    return (5 * torch.rand(envs, 1, generator=random) - 2.5).to(device)


def set_state(gym_env: Any, state: np.ndarray, first: bool) -> None:
    """Gymnasium's environments keep their states in various forms."""
    env = gym_env.unwrapped
    if env.spec.id == "MountainCar-v0":
        env.state = tuple(state)
    elif env.spec.id == "MountainCarContinuous-v0" and not first:
        env.state = state.astype(np.float32)
    else:
        env.state = state
    env.steps_beyond_terminated = None


def complaint(op: str, text: str) -> AbstractContextManager[object]:
    return pytest.raises(RuntimeError, match="^" + re.escape(f"native_envs_{op}: {text}"))


# -- results


@pytest.mark.parametrize("env", ENVS)
def test_each_step_is_gymnasiums(env: str, device: torch.device) -> None:
    envs, random = 9, torch.Generator().manual_seed(1)
    state, counters = begun(env, envs, device)
    theirs = gymnasium.make(env, max_episode_steps=-1, disable_env_checker=True)
    theirs.reset(seed=0)
    for step in range(250):
        before = state.cpu().numpy().copy()
        action = actions(env, envs, random, device)
        observation, reward, terminated, _ = native_envs_step_(env, state, counters, action)
        begins = counters[EPISODE] > 1
        for i in range(envs):
            if begins[i]:
                continue  # its first episode is over
            set_state(theirs, before[:, i].copy(), first=step == 0)
            seen, gain, end, _, _ = theirs.step(action[i].cpu().numpy())
            assert_close(state[:, i].cpu(), torch.tensor(theirs.unwrapped.state).double(),
                         atol=1e-7, rtol=0)  # fmt: skip
            assert np.abs(observation[i].cpu().numpy() - seen).max() <= 1e-6
            assert reward[i].item() == pytest.approx(gain, abs=1e-6, rel=1e-6)
            assert terminated[i].item() == end


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("envs", COUNTS)
def test_any_number_of_environments_steps_alike(env: str, envs: int, device: torch.device) -> None:
    """The same bits for any number of neighbours, and on every device."""
    some, cpu = begun(env, envs, device), torch.device("cpu")
    many = begun(env, 301, cpu)
    random = torch.Generator().manual_seed(2)
    for _ in range(25):
        action = actions(env, 301, random, cpu)
        want = native_envs_step_(env, *many, action, max_episode_steps=10, autoreset="same_step")
        got = native_envs_step_(
            env, *some, action[:envs].to(device), max_episode_steps=10, autoreset="same_step"
        )
        assert len(got) == 5
        for x, y in zip(got, want, strict=True):
            assert torch.equal(x.cpu(), y[:envs])
    assert torch.equal(some[0].cpu(), many[0][:, :envs])
    assert torch.equal(some[1].cpu(), many[1][:, :envs])


@pytest.mark.parametrize("env", ENVS)
def test_threads_change_nothing(env: str) -> None:
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            random = torch.Generator().manual_seed(3)
            batch = begun(env, 20011, torch.device("cpu"))
            for _ in range(5):
                action = actions(env, 20011, random, torch.device("cpu"))
                out = native_envs_step_(env, *batch, action, max_episode_steps=3)
            results.append((*batch, *out))
    finally:
        torch.set_num_threads(threads)
    for x, y in zip(*results, strict=True):
        assert torch.equal(x, y)


def test_episodes_end_and_begin_as_the_mode_says(device: torch.device) -> None:
    random = torch.Generator().manual_seed(4)
    for mode in ("next_step", "same_step", "disabled"):
        state, counters = begun("MountainCar-v0", 3, device)
        first = state.clone()
        for t in range(1, 4):
            action = actions("MountainCar-v0", 3, random, device)
            observation, reward, terminated, truncated, *final = native_envs_step_(
                "MountainCar-v0", state, counters, action, max_episode_steps=3, autoreset=mode
            )
            assert reward.tolist() == [-1] * 3
            assert not terminated.any()
            assert truncated.tolist() == [t == 3] * 3
        assert counters[EPISODE].tolist() == [2 if mode == "same_step" else 1] * 3
        if mode == "same_step":
            (last,) = final
            assert torch.equal(observation, state.T.float())
            assert (state[1] == 0).all()  # at rest, as episodes begin
            assert not torch.equal(last, observation)
            assert not torch.equal(state, first)
            continue
        assert (state[1] != 0).all()
        action = actions("MountainCar-v0", 3, random, device)
        if mode == "disabled":
            before = state.clone()
            with complaint("step_", "counters must be of episodes that go on, got one that is "
                           "over at position 0. Reset it first"):  # fmt: skip
                native_envs_step_("MountainCar-v0", state, counters, action, autoreset=mode)
            assert torch.equal(state, before)
            mask = torch.tensor([True, False, True], device=device)
            native_envs_reset_("MountainCar-v0", state, counters, mask=mask)
            assert counters[FINISHED].tolist() == [0, 1, 0]
            assert torch.equal(state[:, 1], before[:, 1])
            continue
        observation, reward, terminated, truncated = native_envs_step_(
            "MountainCar-v0", state, counters, action, max_episode_steps=3
        )
        assert reward.tolist() == [0] * 3
        assert not terminated.any() and not truncated.any()
        assert (state[1] == 0).all()
        assert torch.equal(observation, state.T.float())


def test_beginnings_lie_within_bounds(device: torch.device) -> None:
    state, counters = begun("Pendulum-v1", 4000, device)
    angle, speed = state.cpu()
    assert angle.abs().max() <= math.pi and angle.abs().max() > 0.99 * math.pi
    assert speed.abs().max() <= 1 and speed.abs().max() > 0.99
    assert angle.mean().abs() < 0.1 and speed.mean().abs() < 0.03
    bounds = torch.tensor([[0.5, -0.25], [0.75, -0.25]], dtype=torch.float64)
    observation = native_envs_reset_("Pendulum-v1", state, counters, bounds=bounds)
    angle, speed = state.cpu()
    assert angle.min() >= 0.5 and angle.max() <= 0.75 and (speed == -0.25).all()
    want = torch.stack([angle.cos(), angle.sin(), speed], 1).float()
    assert_close(observation.cpu(), want, atol=1e-6, rtol=0)


# -- what is refused


@pytest.mark.parametrize("env", ENVS)
def test_a_bad_action_changes_nothing(env: str, device: torch.device) -> None:
    count = SIZES[env].actions
    batch = begun(env, 70, device)
    for bad in (count, -1, 2**63 - 1, -(2**63)) if count else (math.nan, math.inf, -math.inf):
        action = actions(env, 70, torch.Generator().manual_seed(0), device)
        action[66:] = bad
        out = native_envs_step_(env, *batch, actions(env, 70, torch.Generator(), device))
        before = [x.clone() for x in (*batch, *out)]
        rule = f"in [0, {count}), got {bad}" if count else f"finite, got {bad}"
        with complaint("step_", f"action must be {rule} at position 66"):
            native_envs_step_(env, *batch, action, out=out)
        if device.type == "cuda":
            native_envs_step_(env, *batch, action, out=out, check=False)
        for x, y in zip((*batch, *out), before, strict=True):
            assert torch.equal(x, y)


def test_a_wrong_tensor_is_named(device: torch.device) -> None:
    state, counters = begun("CartPole-v1", 4, device)
    action = torch.zeros(4, dtype=torch.int64, device=device)
    out = native_envs_step_("CartPole-v1", state, counters, action)

    def refused(text: str, **changes: Any) -> None:
        good = {"env": "CartPole-v1", "state": state, "counters": counters, "action": action}
        with complaint("step_", text):
            native_envs_step_(**good | {"out": out} | changes)

    refused("state must have shape [2, 4], got [4, 4]", env="Pendulum-v1")
    refused("state must be [variables, envs], got shape [16]", state=state.flatten())
    refused("state must be float64, got float32", state=state.float())
    refused("counters must have shape [4, 4], got [3, 4]", counters=counters[:3])
    refused("counters must be int64, got int32", counters=counters.int())
    refused("action must have shape [4], got [3]", action=action[:3])
    refused("action must have shape [4], got [4, 1]", action=action[:, None])
    refused("action must be int64, got int32", action=action.int())
    refused("action must be int64, got float32", action=action.float())
    refused("observation must have shape [4, 4], got [3, 4]", out=(out[0][:3], *out[1:]))
    refused("reward must be float32, got float64", out=(out[0], out[1].double(), *out[2:]))
    refused("terminated must be bool, got uint8", out=(*out[:2], out[2].byte(), out[3]))
    refused("terminated must not share memory with truncated", out=(*out[:2], out[2], out[2]))
    refused("max_episode_steps must not be negative, got -1", max_episode_steps=-1)
    refused("autoreset must be one of next_step, same_step, disabled, got 'x'", autoreset="x")
    refused("env must be one of CartPole-v1, Pendulum-v1, ", env="CartPole-v0")
    holes = torch.empty(4, 8, device=device)[:, ::2]
    refused("observation must be contiguous, got strides [8, 2]", out=(holes, *out[1:]))


def test_a_wrong_reset_is_named(device: torch.device) -> None:
    state, counters = native_envs_new("Pendulum-v1", 4, device=device)

    def refused(text: str, **changes: Any) -> None:
        with complaint("reset_", text):
            native_envs_reset_("Pendulum-v1", state, counters, **changes)

    refused("mask must be bool, got int64", mask=torch.ones(4, dtype=torch.int64, device=device))
    refused("mask must have shape [4], got [3]",
            mask=torch.ones(3, dtype=torch.bool, device=device))  # fmt: skip
    refused("bounds must be float64, got float32", bounds=torch.zeros(2, 2))
    bounds = torch.tensor([[0.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
    refused("bounds must be finite and ascend, got 1 and 0.5 at position 1", bounds=bounds)
    refused("bounds must have shape [2, 2], got [1, 2]", bounds=bounds[:1])
    bounds[1, 1] = math.inf
    refused("bounds must be finite and ascend, got 1 and inf at position 1", bounds=bounds)
    with complaint("new", "env must be one of CartPole-v1, Pendulum-v1, Acrobot-v1, "):
        native_envs_new("Ant-v5", 4)
    with complaint("new", "num_envs must not be negative, got -1"):
        native_envs_new("Pendulum-v1", -1)


# -- torch


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_registration_is_sound(env: str, device: torch.device) -> None:
    number = list(SIZES).index(env)
    state, counters = begun(env, 5, device)
    action = actions(env, 5, torch.Generator().manual_seed(0), device)
    out = native_envs_step_(env, state, counters, action, autoreset="same_step")
    torch.library.opcheck(
        OPS.native_envs_step_.default, (number, state, counters, action, 7, 1, True, *out)
    )
    mask = torch.tensor([True, False, True, True, False], device=device)
    torch.library.opcheck(
        OPS.native_envs_reset_.default, (number, state, counters, mask, None, out[0])
    )


@pytest.mark.compile
def test_compiles_into_one_graph(device: torch.device) -> None:
    def rollout(state: Tensor, counters: Tensor) -> Tensor:
        observation = native_envs_reset_("CartPole-v1", state, counters)
        action = (observation[:, 2] > 0).long()
        observation, reward, *_ = native_envs_step_("CartPole-v1", state, counters, action)
        return reward + observation[:, 0]

    torch.compiler.reset()
    plain, compiled = (begun("CartPole-v1", 6, device) for _ in range(2))
    want = rollout(*plain)
    assert_close(torch.compile(rollout, fullgraph=True)(*compiled), want)
    assert torch.equal(plain[0], compiled[0]) and torch.equal(plain[1], compiled[1])

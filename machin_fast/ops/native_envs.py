"""Environments of Gymnasium's that are stepped in C++ or CUDA, many at once.

All that a batch keeps is two tensors, ``state`` and ``counters``, so that it can be moved, saved,
shared and put into a state dict like any tensor. Episodes begin at random: of the seeds in the
counters everything that follows is a function, the same bits on every device, with any number
of threads, and for an environment whatever others stand beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from machin_fast.ops._registration import no_gradient, writes_in_place


class NativeEnvSizes(NamedTuple):
    """Numbers that an environment has."""

    variables: int
    """In its state."""
    observation: int
    actions: int
    """To choose from; 0: an action is one real number."""
    draws: int
    """Random ones that an episode begins with."""


# Numbered as in csrc/ops/native_envs.h.
SIZES = {
    "CartPole-v1": NativeEnvSizes(4, 4, 2, 4),
    "Pendulum-v1": NativeEnvSizes(2, 3, 0, 2),
    "Acrobot-v1": NativeEnvSizes(4, 6, 3, 4),
    "MountainCar-v0": NativeEnvSizes(2, 2, 3, 1),
    "MountainCarContinuous-v0": NativeEnvSizes(2, 2, 0, 1),
}
NUMBERS = {name: number for number, name in enumerate(SIZES)}
AUTORESETS = {"next_step": 0, "same_step": 1, "disabled": 2}
# Rows of the counters.
SEED, EPISODE, ELAPSED, FINISHED = range(4)


def native_envs_new(
    env: str, num_envs: int, *, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """A batch of environments, not seeded and not reset yet.

    Source: Towers et al. 2024, Gymnasium, arXiv:2407.17032.

    Args:
        env: CartPole-v1, Pendulum-v1, Acrobot-v1, MountainCar-v0 or MountainCarContinuous-v0.
        num_envs: How many.
        device: Where they live.

    Returns:
        ``state``, ``[variables, num_envs]``, float64: x, its speed, angle, its speed (CartPole);
        angle, its speed (Pendulum); two angles, their speeds (Acrobot); position, speed
        (MountainCars). ``counters``, ``[4, num_envs]``, int64: seed, number of the next episode,
        steps of this one, and whether it is over.

    Raises:
        RuntimeError: There is no such environment, or ``num_envs`` is negative.
    """
    _number("native_envs_new", env)
    if num_envs < 0:
        raise RuntimeError(f"native_envs_new: num_envs must not be negative, got {num_envs}")
    state = torch.zeros(SIZES[env].variables, num_envs, dtype=torch.float64, device=device)
    return state, torch.zeros(4, num_envs, dtype=torch.int64, device=device)


def native_envs_reset_(
    env: str,
    state: Tensor,
    counters: Tensor,
    *,
    mask: Tensor | None = None,
    bounds: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Begins an episode in some environments, or in all.

    Source: Towers et al. 2024, Gymnasium, arXiv:2407.17032.

    Args:
        env: Name of the environment.
        state, counters: From ``native_envs_new``; changed in place.
        mask: ``[envs]``, bool: which begin an episode; the others stay as they are. None: all.
        bounds: ``[2, draws]``, float64, on the CPU: least and most of each number that an episode
            begins with, in the order of ``state``. None: as Gymnasium has them.
        out: A contiguous tensor for the observations.

    Returns:
        Observations of all environments, ``[envs, observation]``, float32.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, or ``bounds`` do
            not ascend.
    """
    number = _number("native_envs_reset_", env)
    if out is None:
        out = _new_observation(env, state)
    torch.ops.machin_fast.native_envs_reset_.default(number, state, counters, mask, bounds, out)
    return out


def native_envs_step_(
    env: str,
    state: Tensor,
    counters: Tensor,
    action: Tensor,
    *,
    max_episode_steps: int = 0,
    autoreset: str = "next_step",
    check: bool = True,
    out: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, ...]:
    """Takes one step in each environment.

    An episode ends where the environment terminates it, or, truncated, after
    ``max_episode_steps``. The whole step is refused before anything is written if one
    environment may not take it.

    Source: Towers et al. 2024, Gymnasium, arXiv:2407.17032.

    Args:
        env: Name of the environment.
        state, counters: From ``native_envs_new``, reset; changed in place.
        action: ``[envs]``, int64, one of the environment's actions; or ``[envs, 1]``, float32,
            finite. What is beyond its space counts as Gymnasium has it: clipped.
        max_episode_steps: Steps of an episode at most. 0: any number.
        autoreset: When an episode that is over begins anew. ``next_step``: the next step does that
            instead of acting, with a reward of 0. ``same_step``: at once; the observation is of
            the new episode. ``disabled``: by ``native_envs_reset_``, and until then the
            environment takes no step.
        check: Raise if the step is refused. On CUDA that waits for the device; False leaves the
            wait out, and a refused step then writes nothing, results neither, and says nothing.
        out: Contiguous tensors for the results.

    Returns:
        Observation ``[envs, observation]``, float32; reward ``[envs]``, float32; terminated and
        truncated ``[envs]``, bool; with ``same_step`` also the observations before any episode
        began anew.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, an action is not
            of its space, or an episode is over and nothing resets it.
    """
    number = _number("native_envs_step_", env)
    when = _autoreset("native_envs_step_", autoreset)
    if out is None:
        out = native_envs_outputs(env, state, autoreset=autoreset)
    observation, reward, terminated, truncated, *final = out
    torch.ops.machin_fast.native_envs_step_.default(
        number, state, counters, action, max_episode_steps, when, check,
        observation, reward, terminated, truncated, final[0] if final else None,
    )  # fmt: skip
    return out


def native_envs_outputs(
    env: str, state: Tensor, *, autoreset: str = "next_step"
) -> tuple[Tensor, ...]:
    """Memory for the results of ``native_envs_step_``.

    Source: Towers et al. 2024, Gymnasium, arXiv:2407.17032.

    Args:
        env: Name of the environment.
        state: From ``native_envs_new``.
        autoreset: As in ``native_envs_step_``.

    Returns:
        Contiguous tensors, uninitialised, to pass as ``out``.

    Raises:
        RuntimeError: There is no such environment or mode.
    """
    _number("native_envs_outputs", env)
    _autoreset("native_envs_outputs", autoreset)
    envs, device = state.shape[1], state.device
    flags = (torch.empty(envs, dtype=torch.bool, device=device) for _ in range(2))
    reward = torch.empty(envs, dtype=torch.float32, device=device)
    final = [_new_observation(env, state)] if autoreset == "same_step" else []
    return (_new_observation(env, state), reward, *flags, *final)


def _number(op: str, env: str) -> int:
    if env not in NUMBERS:
        raise RuntimeError(f"{op}: env must be one of {', '.join(NUMBERS)}, got {env!r}")
    return NUMBERS[env]


def _autoreset(op: str, name: str) -> int:
    if name not in AUTORESETS:
        raise RuntimeError(f"{op}: autoreset must be one of {', '.join(AUTORESETS)}, got {name!r}")
    return AUTORESETS[name]


def _new_observation(env: str, state: Tensor) -> Tensor:
    shape = (state.shape[1], SIZES[env].observation)
    return torch.empty(shape, dtype=torch.float32, device=state.device)


writes_in_place("native_envs_step_")
writes_in_place("native_envs_reset_")
no_gradient("native_envs_step_", "native_envs_reset_")

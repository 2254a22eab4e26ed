"""Collecting experience from environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from machin_fast.collect.acting import Acting, Actor
from machin_fast.collect.environments import Environments
from machin_fast.collect.recording import Memory, Recording
from machin_fast.data import Trajectory


class Collector:
    """Steps environments with an actor, and writes down what happens.

    All kinds of vectors give the same transitions, however they reset themselves
    (``metadata["autoreset_mode"]``): what followed an episode's last step is its final
    observation, and steps in which an environment only reset itself are no rows. What an
    ``ActorPool`` lost with a worker that it replaced ends as a segment that was cut. Two collectors
    may share an actor, which then learns from both.

    Columns are ``state`` (or ``state/key`` of nested observations, ``state/0`` of tuples),
    ``action`` as the actor returned it, ``reward``, ``terminated``, ``truncated`` and those that
    ``keep`` asks for. Floating point observations and rewards are of torch's default dtype.

    Args:
        envs: A vector of environments, or a single one. Reset here.
        actor: A policy, called with what is observed by name: ``state``, or the keys of nested
            observations, those that its ``forward`` takes. Or a function of a dict of these,
            such as ``dqn.act_discrete_with_noise``. Returns actions ``[envs, ...]``; or a tuple
            (action, log_prob, entropy, ...); or a dict with ``action``. Actions in a ``Box`` are
            clipped for the environments, not in the column. A recurrent one gets ``hidden`` and
            ``reset`` as well, and returns its new state last.
        keep: What else becomes columns: ``log_prob``, ``entropy``, ``hidden`` (a recurrent
            actor's state before each step), or names in the dict that the actor returns. None:
            ``log_prob``, if the actor is a module that returns one.
        deterministic: The policy's ``mode`` acts: nothing is left to chance.
        recurrent: Whether the actor is. None: whether the module says so; of functions it must be
            said.
        seed: Of the environments: one of which each gets its own, or one each.

    Attributes:
        episode_returns: Sums of rewards of the episodes that ended in the last call, first ended
            first. They may have begun in an earlier one.
        episode_lengths: Their numbers of steps.

    Raises:
        ValueError: ``envs`` do not say how they reset, or have spaces that no column can hold;
            the actor has no ``mode``, or no hidden state to keep.
        TypeError: ``envs`` or ``actor`` is something else.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any] | gymnasium.Env[Any, Any],
        actor: Actor | Acting,
        *,
        keep: Sequence[str] | None = None,
        deterministic: bool = False,
        recurrent: bool | None = None,
        seed: int | Sequence[int | None] | None = None,
    ) -> None:
        self._envs = Environments(envs, "Collector")
        if not isinstance(actor, Acting):  # as a worker's is, see worker.py
            actor = Acting(
                actor, keep, deterministic=deterministic, recurrent=recurrent, op="Collector"
            )
        self._acting = actor
        self._memory = Memory()
        self._return = np.zeros(self._envs.num_envs)
        self._length = np.zeros(self._envs.num_envs, dtype=np.int64)
        self.episode_returns: list[float] = []
        self.episode_lengths: list[int] = []
        self._reset(seed)

    def steps(self, n: int) -> Trajectory:
        """Takes ``n`` steps in each environment.

        Episodes go on in the next call.

        Args:
            n: Number of steps, at least 1.

        Returns:
            ``n * envs`` rows, which ``rollout`` shows as ``[n, envs]``; fewer, and no rollout, if
            environments used a step to reset themselves.

        Raises:
            ValueError: ``n`` is below 1, or the actor returns something else.
        """
        recording = self._begin("steps", n, room=n)
        for _ in range(n):
            self._step(recording, ~self._envs.resetting)
        return recording.trajectory(self._envs.observation)

    def episodes(self, n: int) -> Trajectory:
        """Plays whole episodes: the first ``n`` to begin, once all environments are reset.

        Long ones are as likely among them as short ones, since none is left out for not having
        ended. Environments go on meanwhile, but what they do besides is not kept.

        Args:
            n: Number of episodes, at least 1.

        Returns:
            The episodes, one segment each.

        Raises:
            ValueError: ``n`` is below 1, or the actor returns something else.
        """
        recording = self._begin("episodes", n, room=128)
        envs = self._envs
        if not envs.begun.all():
            self._reset()
        counts = np.zeros(envs.num_envs, dtype=bool)
        to_begin = n
        while True:
            begun = envs.begun & ~counts
            begun[np.flatnonzero(begun)[to_begin:]] = False
            to_begin -= int(begun.sum())
            counts |= begun
            if not counts.any() and not to_begin:
                break
            counts &= ~self._step(recording, counts.copy())
        return recording.trajectory(envs.observation)

    def _begin(self, what: str, n: int, room: int) -> Recording:
        if n < 1:
            raise ValueError(f"Collector.{what}: n must be at least 1, got {n}")
        self.episode_returns, self.episode_lengths = [], []
        return Recording(self._envs.num_envs, room, self._memory)

    def _reset(self, seed: int | Sequence[int | None] | None = None) -> None:
        self._envs.reset(seed)
        self._return[:] = 0
        self._length[:] = 0

    def _step(self, recording: Recording, counts: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Takes a step; returns which episodes ended with it."""
        envs = self._envs
        choice = self._acting(envs)
        recording.observe(envs.observation, choice)
        self._length += ~envs.resetting
        step = envs.step(choice.action)
        if step.lost.size:
            counts = counts.copy()
            counts[step.lost] = False
        recording.complete(step, counts)
        self._return += step.reward
        ended = step.terminated | step.truncated
        if step.ended.size:
            reported = step.ended[counts[step.ended]]
            self.episode_returns += self._return[reported].tolist()
            self.episode_lengths += self._length[reported].tolist()
            self._return[ended] = 0
            self._length[ended] = 0
        return ended

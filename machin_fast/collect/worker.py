"""What a worker process does that acts and steps by itself."""

from __future__ import annotations

import contextlib
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from gymnasium import Env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn

from machin_fast.collect.acting import Acting, Actor
from machin_fast.collect.collector import Collector
from machin_fast.collect.shared_parameters import SharedParameters
from machin_fast.collect.shipping import Freight, pack
from machin_fast.env.pool import messages
from machin_fast.env.pool.worker import settle


@dataclass(frozen=True)
class Setup:
    """What a worker is told when it starts.

    Attributes:
        make: Makes functions that make its environments.
        seeds: Of these.
        actor, weights: Whoever acts, and whose weights follow the learner's.
        keep, deterministic, recurrent: As for ``Collector``.
        seed: Of the worker's own random numbers.
    """

    make: Callable[[], Sequence[Callable[[], Env[Any, Any]]]]
    seeds: Sequence[int | None]
    actor: Actor
    weights: nn.Module
    keep: Sequence[str] | None
    deterministic: bool
    recurrent: bool | None
    seed: int


@dataclass(frozen=True)
class Job:
    """A call of ``Collector``: its method and how many."""

    method: str
    n: int


@dataclass(frozen=True)
class Delivery:
    """What came of a job; the fd of the rows' memory follows."""

    freight: Freight
    episode_returns: list[float]
    episode_lengths: list[int]


@dataclass(frozen=True)
class Failure:
    """What a worker raised, where, and itself if it can travel."""

    trace: str
    cause: BaseException | None


def main(
    pipe: Connection,
    lifeline: Connection,
    first: int,
    killed_with_starter: bool,
    parent: int,
    parameters: SharedParameters,
    setup: bytes,
) -> None:
    """A worker process, from its start to its end.

    Args:
        pipe, lifeline, first, killed_with_starter: As of the pool's workers.
        parent: Process id.
        parameters: Of the learner.
        setup: A pickled ``Setup``.
    """
    settle(lifeline, killed_with_starter)
    torch.set_num_threads(1)
    try:
        _work(pipe, parent, messages.loads(setup), parameters)
    except Exception as error:
        failure = messages.dumps(Failure(traceback.format_exc(), _sendable(error)))
        with contextlib.suppress(OSError):  # the parent is gone: it was that what was raised
            pipe.send_bytes(failure)


def _work(pipe: Connection, parent: int, setup: Setup, parameters: SharedParameters) -> None:
    torch.manual_seed(setup.seed)
    np.random.seed(setup.seed)  # noqa: NPY002 (programs that draw from it shall differ, too)
    random.seed(setup.seed)
    acting = _Following(parameters, setup)
    envs = SyncVectorEnv(list(setup.make()), autoreset_mode=AutoresetMode.SAME_STEP)
    try:
        collector = Collector(envs, acting, seed=setup.seeds)
        pipe.send_bytes(messages.dumps(None))
        while (job := messages.loads(pipe.recv_bytes())) is not None:
            freight, memory = pack(getattr(collector, job.method)(job.n))
            returns, lengths = collector.episode_returns, collector.episode_lengths
            pipe.send_bytes(messages.dumps(Delivery(freight, returns, lengths)))
            reduction.send_handle(pipe, memory.fd, parent)
            memory.close()
    finally:
        envs.close()


class _Following(Acting):
    """Acts with the weights that were published last, and keeps their version."""

    def __init__(self, parameters: SharedParameters, setup: Setup) -> None:
        super().__init__(
            setup.actor, setup.keep, deterministic=setup.deterministic, recurrent=setup.recurrent
        )
        self._parameters = parameters
        self._weights = setup.weights
        self._version = 0

    def ask(self, state: Mapping[str, Any]) -> dict[str, Any]:
        self._version = self._parameters.update(self._weights)
        return super().ask(state)

    def kept(self, found: Mapping[str, Any], envs: int) -> dict[str, Tensor]:
        return {**super().kept(found, envs), "version": torch.full((envs,), self._version)}


def _sendable(error: BaseException) -> BaseException | None:
    try:
        copied = messages.loads(messages.dumps(error))
    except Exception:
        return None
    return copied if isinstance(copied, BaseException) else None

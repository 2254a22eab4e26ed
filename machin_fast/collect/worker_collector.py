"""Collecting experience in worker processes, each with a copy of the policy."""

from __future__ import annotations

import copy
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from torch import nn

from machin_fast.collect.acting import Acting, Actor
from machin_fast.collect.shared_parameters import SharedParameters
from machin_fast.collect.shipping import unpack
from machin_fast.collect.worker import Delivery, Failure, Job, Setup, main
from machin_fast.data import Trajectory, concat
from machin_fast.env.pool import messages
from machin_fast.env.pool.errors import WorkerDied, WorkerHung
from machin_fast.env.pool.factories import Shipment, makers
from machin_fast.env.pool.plan import shares
from machin_fast.env.pool.process import (
    WorkerGoneError,
    WorkerProcess,
    dies_with_starter,
    start_context,
)
from machin_fast.env.pool.seeds import seeds_of_reset

_PATIENCE_AT_CLOSE = 2.0  # seconds


class WorkerCollector:
    """As ``Collector``, but workers act by themselves: each chooses actions for its share of the
    environments with a copy of the policy, and steps them.

    So no step waits for another process. What workers choose with are the weights that were
    published last: they look before each step. Rows have a further column ``version``, int64, of
    the weights that chose, 1 for the first. Within a worker environments are stepped one after
    the other.

    Args:
        env: Name of an environment, a function that makes one, or such functions, one each.
        actor: As for ``Collector``. Workers get a copy; a function travels with all it refers to.
        num_envs: How many environments, if ``env`` is one.
        num_workers: How many processes.
        env_kwargs: For ``gymnasium.make``.
        weights: The module whose weights ``actor`` chooses with, if that is a function.
        keep, deterministic, recurrent: As for ``Collector``.
        ahead: So many calls workers go ahead: while the learner learns from one, they collect
            for the next ones. 0: they wait, and all rows are by the newest weights.
        seed: Environment i begins with ``seed + i``; workers draw from seeds made of it.
        context: How processes start: "forkserver" or "spawn". None: whatever is there.
        timeout: Seconds after which a worker that has not answered counts as hung.

    Attributes:
        episode_returns, episode_lengths: As of ``Collector``, one worker after another.
        lag: How many versions the oldest weights in the last call were behind the newest.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: ``env`` or ``actor`` is something else, or a function has no ``weights``.
        WorkerFailed: A worker could not begin.
    """

    def __init__(
        self,
        env: str | EnvSpec | Callable[[], gymnasium.Env[Any, Any]] | Sequence[Callable[[], Any]],
        actor: Actor,
        *,
        num_envs: int | None = None,
        num_workers: int,
        env_kwargs: Mapping[str, Any] | None = None,
        weights: nn.Module | None = None,
        keep: Sequence[str] | None = None,
        deterministic: bool = False,
        recurrent: bool | None = None,
        ahead: int = 0,
        seed: int | None = None,
        context: str | None = None,
        timeout: float = 600.0,
    ) -> None:
        make = makers(env, num_envs, env_kwargs)
        if not 1 <= num_workers <= len(make):
            raise ValueError(
                f"WorkerCollector: num_workers must be in [1, {len(make)}], the number of "
                f"environments, got {num_workers}"
            )
        if ahead < 0:
            raise ValueError(f"WorkerCollector: ahead must be at least 0, got {ahead}")
        Acting(actor, keep, deterministic=deterministic, recurrent=recurrent, op="WorkerCollector")
        if weights is None:
            if not isinstance(actor, nn.Module):
                raise TypeError(
                    "WorkerCollector: weights must be a torch.nn.Module if the actor is a "
                    f"function, got {weights}"
                )
            weights = actor
        self.episode_returns: list[float] = []
        self.episode_lengths: list[int] = []
        self.lag = 0
        self._weights = weights
        self._ahead = ahead
        self._timeout = timeout
        self._asked: deque[list[Job | None]] = deque()
        self._shares = shares(len(make), num_workers, step_in_parent=False)[1]
        self._parameters = SharedParameters(weights)
        self._workers: list[WorkerProcess] = []
        self._end = weakref.finalize(self, _end, self._workers, self._parameters)
        if actor is weights:
            actor = weights = copy.deepcopy(weights).cpu()
        seeds = seeds_of_reset(seed, len(make))
        own_seeds = np.random.SeedSequence(seed).generate_state(num_workers).tolist()
        try:
            self.publish()
            started_by = start_context(context)
            killed = dies_with_starter(started_by)
            for number, share in enumerate(self._shares):
                setup = Setup(
                    make=Shipment([make[i] for i in share]),
                    seeds=[seeds[i] for i in share],
                    actor=actor,
                    weights=weights,
                    keep=keep,
                    deterministic=deterministic,
                    recurrent=recurrent,
                    seed=own_seeds[number],
                )
                arguments = killed, os.getpid(), self._parameters, messages.by_value(setup)
                self._workers.append(
                    WorkerProcess(started_by, number, share.start, target=main, args=arguments)
                )
            for number in range(num_workers):
                self._message(number)
        except BaseException:
            self.close()
            raise

    def steps(self, n: int) -> Trajectory:
        """Publishes the weights, and takes ``n`` steps in each environment.

        With ``ahead`` these are the steps that were begun in an earlier call, if that asked for
        the same; else what was begun is thrown away.

        Args:
            n: Number of steps, at least 1.

        Returns:
            ``n * envs`` rows, which ``rollout`` shows as ``[n, envs]``.

        Raises:
            ValueError: ``n`` is below 1, or the collector is closed.
            WorkerFailed: An environment or the actor raised. Then the collector is closed, as
                after the others.
            WorkerDied: A worker ended unasked.
            WorkerHung: A worker did not answer within ``timeout``.
        """
        return self._collect("steps", n, [n] * len(self._shares))

    def episodes(self, n: int) -> Trajectory:
        """Publishes the weights, and plays ``n`` whole episodes.

        Each worker plays a part of them, in proportion to its environments, as
        ``Collector.episodes`` does. As for ``ahead``, see ``steps``.

        Args:
            n: Number of episodes, at least 1.

        Returns:
            The episodes, one segment each.

        Raises:
            ValueError, WorkerFailed, WorkerDied, WorkerHung: As by ``steps``.
        """
        # Of 5 episodes, 3 environments and 2 workers: those of the environments 0 1 2 0 1.
        num_envs = self._shares[-1].stop
        parts = [sum(i % num_envs in share for i in range(n)) for share in self._shares]
        return self._collect("episodes", n, parts)

    def publish(self) -> int:
        """Lets workers choose with the weights as they are now, from their next step on.

        Returns:
            The version of these weights.
        """
        return self._parameters.publish(self._weights)

    def close(self) -> None:
        """Ends the workers. May be called twice."""
        self._end()

    def _collect(self, method: str, n: int, parts: Sequence[int]) -> Trajectory:
        if n < 1:
            raise ValueError(f"WorkerCollector.{method}: n must be at least 1, got {n}")
        if not self._end.alive:
            raise ValueError(f"WorkerCollector.{method}: the collector must be open, got it closed")
        self.publish()
        jobs = [Job(method, part) if part else None for part in parts]
        try:
            while self._asked and self._asked[0] != jobs:
                self._receive()
            while len(self._asked) <= self._ahead:
                self._ask(jobs)
            return self._receive()
        except BaseException:
            self.close()
            raise

    def _ask(self, jobs: list[Job | None]) -> None:
        self._asked.append(jobs)
        for worker, job in zip(self._workers, jobs, strict=True):
            if job is not None:
                worker.send(messages.dumps(job), self._timeout)

    def _receive(self) -> Trajectory:
        found = [self._answer(i) for i, job in enumerate(self._asked[0]) if job is not None]
        self._asked.popleft()
        parts = [trajectory for _, trajectory in found]
        self.episode_returns = [x for delivery, _ in found for x in delivery.episode_returns]
        self.episode_lengths = [x for delivery, _ in found for x in delivery.episode_lengths]
        together = concat(parts)
        rollouts = [part.envs for part in parts]
        if None not in rollouts:  # of equally many steps, and workers are in order
            together.envs = sum(filter(None, rollouts))
        self.lag = self._parameters.version - int(together["version"].min())
        return together

    def _answer(self, number: int) -> tuple[Delivery, Trajectory]:
        delivery = self._message(number)
        return delivery, unpack(delivery.freight, self._workers[number].receive_fd())

    def _message(self, number: int) -> Any:
        """What a worker sends next."""
        worker, env_ids = self._workers[number], self._shares[number]
        try:
            message = messages.loads(worker.receive(self._timeout))
        except WorkerGoneError:
            worker.join(_PATIENCE_AT_CLOSE)
            raise WorkerDied(number, env_ids, worker.exitcode, {}) from None
        except TimeoutError:
            worker.kill()
            worker.join(_PATIENCE_AT_CLOSE)
            raise WorkerHung(number, env_ids, worker.exitcode, {}) from None
        if isinstance(message, Failure):
            raise WorkerFailed(number, env_ids, message.trace) from message.cause
        return message


class WorkerFailed(RuntimeError):  # noqa: N818 (a sibling of WorkerDied)
    """An environment or the actor raised in a worker. What it raised is the cause
    (``__cause__``), unless that could not travel from its process.

    Attributes:
        worker: Number of the worker.
        env_ids: Of its environments.
        traceback: Where it raised, as text.
    """

    def __init__(self, worker: int, env_ids: Sequence[int], trace: str) -> None:
        self.worker, self.env_ids, self.traceback = worker, list(env_ids), trace
        super().__init__(
            f"worker {worker}, which collects from environments {env_ids[0]} to {env_ids[-1]}, "
            f"raised:\n\n{trace.rstrip()}"
        )


def _end(workers: Sequence[WorkerProcess], parameters: SharedParameters) -> None:
    """Lets workers close their environments; ends those that take their time."""
    for worker in workers:
        worker.send(messages.dumps(None), _PATIENCE_AT_CLOSE)
    deadline = time.monotonic() + _PATIENCE_AT_CLOSE
    for worker in workers:
        if not worker.join(max(0.0, deadline - time.monotonic())):
            worker.kill()
            worker.join(_PATIENCE_AT_CLOSE)
        worker.close()
    parameters.close()

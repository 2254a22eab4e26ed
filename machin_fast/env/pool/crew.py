"""The workers of a pool: what is sent to them, what comes back, and what if nothing does."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, Protocol

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from machin_fast._actor_pool import Dispatcher, control_size
from machin_fast.env.pool import messages
from machin_fast.env.pool.errors import EnvFailed, WorkerDied, WorkerHung
from machin_fast.env.pool.factories import Maker, Shipment
from machin_fast.env.pool.memory import BlockShape
from machin_fast.env.pool.process import WorkerGoneError, WorkerProcess, dies_with_starter
from machin_fast.env.pool.seeds import advanced_seed
from machin_fast.env.pool.worker import RAISED, NewBlock, Setup
from machin_fast.utils.anonymous_memory import AnonymousMemory

# How long to wait at a time. Between, pipes are emptied: a worker whose infos fill its pipe goes
# on only when they are read. Deaths and Ctrl-C are seen within a wait.
_SLICE = 0.05
# A worker that does not end within so many seconds is killed.
_PATIENCE_AT_CLOSE = 2.0

Spaces = tuple[Space[Any], Space[Any]]


@dataclass(frozen=True)
class Care:
    """What to do about workers that are lost.

    Attributes:
        step_timeout: Seconds without a sign of life until a worker counts as hung.
        restart: Replace it, and do not raise.
        max_restarts: So often, of all workers together.
    """

    step_timeout: float
    restart: bool
    max_restarts: int


@dataclass(frozen=True)
class Plan:
    """What workers work on.

    Attributes:
        makers: Of all environments of the pool.
        shares: For each worker its environments. All together are the last ones of the pool.
        mode: When environments are reset.
        block: The first block; it stands in ``memory`` behind the board.
        memory: See ``block``.
    """

    makers: Sequence[Maker]
    shares: Sequence[range]
    mode: AutoresetMode
    block: BlockShape
    memory: AnonymousMemory


class Listener(Protocol):
    """Whom a crew serves."""

    def last_action(self, env_id: int) -> Any:
        """The action that an environment was to step with."""

    def on_restart(self, env_ids: range, lost: list[int]) -> None:
        """These are new environments; those of ``lost`` were to step and must be answered for."""


class Crew:
    """The workers of a pool.

    Args:
        plan: What they work on.
        context: How processes start.
        care: What to do about lost ones.
        listener: Answers for environments that were to step when they were lost.
    """

    def __init__(self, plan: Plan, context: BaseContext, care: Care, listener: Listener) -> None:
        n, shares = len(plan.makers), plan.shares
        self._plan, self._context, self._care = plan, context, care
        self._listener = weakref.proxy(listener)  # it holds the crew
        self.restarts = [0] * len(shares)
        self.seeds: list[int | None] = [None] * n
        self._blocks: list[tuple[BlockShape, AnonymousMemory]] = []

        self._all = slice(shares[0].start, n)
        self._all_ids = np.arange(shares[0].start, n).data
        self._owner = [-1] * shares[0].start + [w for w, share in enumerate(shares) for _ in share]
        self._in_flight = np.zeros(n, bool)
        self._posted_at = np.zeros(n)
        self._ids = np.zeros(n, np.int64)
        self._flags = np.zeros(n, np.int32)
        self._no_flags = self._flags.tobytes()
        self._mail: dict[int, Any] = {}

        self._control = AnonymousMemory(control_size(n, len(shares)))
        self._dispatcher = Dispatcher(self._control.fd, self._owner, len(shares))
        self.processes: list[WorkerProcess] = []
        try:
            for worker, share in enumerate(shares):
                self.processes.append(self._start(worker, [None] * len(share)))
        except BaseException:
            self.close(patience=0)
            raise

    def __len__(self) -> int:
        return len(self._plan.shares)

    @property
    def shares(self) -> Sequence[range]:
        """For each worker its environments."""
        return self._plan.shares

    # -- starting ------------------------------------------------------------------------------

    def _start(self, worker: int, seeds: Sequence[int | None]) -> WorkerProcess:
        plan, share = self._plan, self._plan.shares[worker]
        setup = Setup(
            worker=worker,
            num_workers=len(plan.shares),
            num_envs=len(plan.makers),
            first=share.start,
            make=Shipment([plan.makers[i] for i in share]),
            mode=plan.mode,
            block=plan.block,
            seeds=seeds,
        )
        message = messages.by_value(setup)
        killed = dies_with_starter(self._context)
        process = WorkerProcess(self._context, worker, share.start, args=(killed,))
        self._dispatcher.watch(worker, process.death_fd)
        process.send(message, self._patience_at_start)
        process.send_fd(self._control.fd)
        process.send_fd(plan.memory.fd)
        return process

    @property
    def _patience_at_start(self) -> float:
        # Programs that environments start may take their time.
        return max(self._care.step_timeout, 60.0)

    def spaces(self) -> list[Spaces]:
        """Waits until all workers have made their environments; for each its spaces.

        Raises:
            EnvFailed: One could not be made.
            WorkerDied, WorkerHung: A worker was lost.
        """
        return [pair for worker in range(len(self)) for pair in self._begun(worker)]

    def _begun(self, worker: int) -> list[Spaces]:
        patience = self._patience_at_start * len(self._plan.shares[worker])
        try:
            answer = messages.loads(self.processes[worker].receive(patience))
        except (WorkerGoneError, TimeoutError) as error:
            raise self._obituary(worker, hung=isinstance(error, TimeoutError)) from None
        if isinstance(answer, EnvFailed):
            raise answer
        spaces: list[Spaces] = answer
        return spaces

    # -- steps ---------------------------------------------------------------------------------

    def post_all(self) -> None:
        """Lets all environments of the workers step, each as the board says."""
        self._dispatcher.send(self._all_ids)
        self._in_flight[self._all] = True
        self._posted_at[self._all] = time.monotonic()

    def post(self, env_ids: NDArray[np.int64]) -> None:
        """As ``post_all``, some of them."""
        self._dispatcher.send(env_ids.data)
        self._in_flight[env_ids] = True
        self._posted_at[env_ids] = time.monotonic()

    def collect(self, count: int, *, wait: bool = True) -> tuple[NDArray[np.int64], dict[int, Any]]:
        """Waits for ``count`` answers; without ``wait`` takes what is there.

        Returns:
            ``[count]``, the environments in the order in which they answered; fewer, if
            the listener has answered for the others. And for some of them an info.

        Raises:
            EnvFailed: One raised.
            WorkerDied, WorkerHung: A worker was lost, and is not replaced.
        """
        timeout = _SLICE if wait else 0.0
        got = self._dispatcher.recv(self._ids.data, self._flags.data, count, timeout)
        while wait and got < count:
            self._look_after(self._ids[:got])
            count = min(count, got + self._dispatcher.in_flight())
            ids, flags = self._ids[got:].data, self._flags[got:].data
            got += self._dispatcher.recv(ids, flags, count - got, timeout)
        answered = self._ids[:got]
        self._in_flight[answered] = False
        if self._flags.tobytes() == self._no_flags:
            return answered, {}
        return answered, self._open_mail(answered)

    def _open_mail(self, ids: NDArray[np.int64]) -> dict[int, Any]:
        infos = {}
        for env_id, flag in zip(ids.tolist(), self._flags.tolist(), strict=False):
            if not flag:
                continue
            if env_id not in self._mail:
                self._read_mail(self.processes[self._owner[env_id]])
            content = self._mail.pop(env_id)
            if flag == RAISED:
                raise content
            infos[env_id] = content
        self._flags[:] = 0
        return infos

    def _read_mail(self, process: WorkerProcess) -> None:
        for packed in process.received(self._care.step_timeout):
            message = messages.loads(packed)
            if isinstance(message, dict):  # and not the late answer to a message
                self._mail.update(message)

    def _look_after(self, answered: NDArray[np.int64]) -> None:
        """Empties the pipes; finds workers that died or hang."""
        self._in_flight[answered] = False
        for worker, process in enumerate(self.processes):
            self._read_mail(process)
            if self._hangs(worker):
                self._lose(worker, hung=True)
        for worker in self._dispatcher.dead():
            self._lose(worker)

    def _hangs(self, worker: int) -> bool:
        share = self._plan.shares[worker]
        mine = slice(share.start, share.stop)
        waiting = self._in_flight[mine]
        if not waiting.any():
            return False
        since = time.monotonic() - self._posted_at[mine][waiting].min()
        silent = min(since, self.heartbeat_age(worker))
        return bool(silent > self._care.step_timeout)

    def heartbeat_age(self, worker: int) -> float:
        """Seconds since a worker's last sign of life."""
        return self._dispatcher.heartbeat_age(worker)

    # -- messages ------------------------------------------------------------------------------

    def begin(self, worker: int, message: Any) -> None:
        """Asks a worker for something; ``end`` gives the answer."""
        self._dispatcher.call(worker)
        self.processes[worker].send(messages.by_value(message), self._care.step_timeout)

    def end(self, worker: int, message: Any) -> list[Any] | EnvFailed:
        """The answer to ``message``. A worker that replaces a lost one is asked again.

        Raises:
            WorkerDied, WorkerHung: The worker was lost, and is not replaced.
        """
        patience = self._care.step_timeout * len(self._plan.shares[worker])
        while True:
            try:
                answer: list[Any] | EnvFailed
                answer = messages.loads(self.processes[worker].receive(patience))
                return answer
            except (WorkerGoneError, TimeoutError) as error:
                self._lose(worker, hung=isinstance(error, TimeoutError))
                self.begin(worker, message)

    def add_block(self, shape: BlockShape, memory: AnonymousMemory) -> None:
        """Makes a block known to all workers; it has the next number."""
        self._blocks.append((shape, memory))
        for worker in range(len(self)):
            self._tell(worker, shape, memory)

    def _tell(self, worker: int, shape: BlockShape, memory: AnonymousMemory) -> None:
        process = self.processes[worker]
        self.begin(worker, NewBlock(shape))
        process.send_fd(memory.fd)
        try:
            process.receive(self._care.step_timeout)
        except (WorkerGoneError, TimeoutError) as error:
            self._lose(worker, hung=isinstance(error, TimeoutError))

    # -- losses --------------------------------------------------------------------------------

    def _lose(self, worker: int, *, hung: bool = False) -> None:
        """Replaces a worker that died or hangs, or raises."""
        care, share, process = self._care, self._plan.shares[worker], self.processes[worker]
        died = self._obituary(worker, hung=hung)
        if not care.restart:
            raise died
        if sum(self.restarts) >= care.max_restarts:
            raise died from RuntimeError(f"max_restarts is {care.max_restarts}")
        self._read_mail(process)
        self._dispatcher.watch(worker, -1)
        lost = self._dispatcher.forget(worker)
        self.restarts[worker] += 1
        seeds = [advanced_seed(self.seeds[i], self.restarts[worker]) for i in share]
        self.seeds[share.start : share.stop] = seeds
        self.processes[worker] = self._start(worker, seeds)
        process.close()
        self._begun(worker)
        for shape, memory in self._blocks:
            self._tell(worker, shape, memory)
        self._in_flight[lost] = False
        self._listener.on_restart(share, lost)

    def _obituary(self, worker: int, *, hung: bool) -> WorkerDied:
        process, share = self.processes[worker], self._plan.shares[worker]
        if hung or not process.join(_PATIENCE_AT_CLOSE):
            process.kill()
            process.join(_PATIENCE_AT_CLOSE)
        actions = {i: self._listener.last_action(i) for i in share if self._in_flight[i]}
        kind = WorkerHung if hung else WorkerDied
        return kind(worker, share, process.exitcode, actions)

    def close(self, *, patience: float = _PATIENCE_AT_CLOSE) -> None:
        """Ends all workers, within ``patience`` seconds those that are well. Never raises."""
        self._dispatcher.close()
        deadline = time.monotonic() + patience
        for process in self.processes:
            if not process.join(max(0.0, deadline - time.monotonic())):
                process.kill()
        for process in self.processes:
            process.join(_PATIENCE_AT_CLOSE)
            process.close()
        self.processes.clear()
        self._control.close()
        self._plan.memory.close()
        for _, memory in self._blocks:
            memory.close()

"""What a worker process does: it steps its share, and answers messages."""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, reduction
from multiprocessing.connection import Connection
from typing import Any

from gymnasium import Env, Space
from gymnasium.vector import AutoresetMode

from machin_fast._actor_pool import CALL, Inbox, exit_with_parent
from machin_fast.env.pool import messages
from machin_fast.env.pool.errors import EnvFailed
from machin_fast.env.pool.memory import Arena, Block, BlockShape, Board
from machin_fast.env.pool.share import Share

# Flags of a step's answer.
INFO = 1  # its info waits in the pipe
RAISED = 2  # an EnvFailed waits in the pipe

Environment = Env[Any, Any]


@dataclass(frozen=True)
class Setup:
    """What a worker is told when it starts. Two fds follow: control block and data."""

    worker: int
    num_workers: int
    num_envs: int
    first: int
    make: Callable[[], Sequence[Callable[[], Environment]]]
    mode: AutoresetMode
    block: BlockShape
    seeds: Sequence[int | None]


@dataclass(frozen=True)
class Reset:
    """Reset these environments."""

    env_ids: Sequence[int]
    slots: Sequence[int]
    seeds: Sequence[int | None]
    options: dict[str, Any] | None


@dataclass(frozen=True)
class Call:
    """Call a method of these environments, or get an attribute."""

    env_ids: Sequence[int]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class SetAttribute:
    """Set an attribute of these environments, each to its value."""

    env_ids: Sequence[int]
    name: str
    values: Sequence[Any]


@dataclass(frozen=True)
class NewBlock:
    """Another block; its fd follows."""

    shape: BlockShape


def perform(share: Share, message: Any) -> list[Any]:
    """Does what a message asks of a share, wherever that is.

    Returns:
        A result for each environment.

    Raises:
        EnvFailed: One raised.
    """
    results: list[Any] = []
    what = "reset"
    for place, env_id in enumerate(message.env_ids):
        env = share.envs[env_id - share.first]
        try:
            if isinstance(message, Reset):
                slot, seed = message.slots[place], message.seeds[place]
                results.append(share.reset(env_id, slot, seed, message.options))
            elif isinstance(message, Call):
                what = message.name
                found = env.get_wrapper_attr(message.name)
                call = callable(found)
                results.append(found(*message.args, **message.kwargs) if call else found)
            else:
                what = f"set_attr({message.name!r})"
                env.set_wrapper_attr(message.name, message.values[place])
                results.append(None)
        except Exception as error:
            raise share.failure(error, env_id, what) from error
    return results


class Worker:
    """One worker: its environments, and its ends of pipe and memory."""

    def __init__(self, pipe: Connection, setup: Setup) -> None:
        self._pipe = pipe
        control = reduction.recv_handle(pipe)
        self._inbox = Inbox(control, setup.num_envs, setup.num_workers, setup.worker)
        os.close(control)
        arena = self._receive_memory()
        self._board = Board(arena, setup.num_envs, setup.num_workers)
        self._blocks = [Block(setup.block, arena)]
        self._block = 0
        self._number = setup.worker
        self.share = Share(setup.first, setup.make(), setup.mode, self._board, setup.seeds)
        self.share.attach(self._blocks[0])

    def spaces(self) -> list[tuple[Space[Any], Space[Any]]]:
        """Of each environment, for observations and actions."""
        return [(env.observation_space, env.action_space) for env in self.share.envs]

    def serve(self) -> None:
        """Works until the parent closes."""
        inbox, clock, board, number = self._inbox, time.perf_counter, self._board, self._number
        while (entries := inbox.take()) is not None:
            if entries[0] == CALL:
                self._answer()
                continue
            begin = clock()
            if board.block[0] != self._block:
                self._enter_block()
            self._step(entries)
            board.steps[number] += len(entries)
            board.seconds[number] += clock() - begin

    def _enter_block(self) -> None:
        self._block = int(self._board.block[0])
        self.share.attach(self._blocks[self._block])

    def _step(self, env_ids: list[int]) -> None:
        step, done = self.share.step, self._inbox.done
        mail: dict[int, tuple[int, Any]] = {}
        for env_id in env_ids:
            try:
                info = step(env_id)
            except Exception as error:
                mail[env_id] = RAISED, self.share.failure(error, env_id, "step")
                continue
            if info:
                mail[env_id] = INFO, info
            else:
                done(env_id)
        if mail:
            # One message for all, and sent first: who is told of it finds it.
            self._pipe.send_bytes(self._packed(mail))
            for env_id, (flag, _) in mail.items():
                done(env_id, flag)

    def _answer(self) -> None:
        message = messages.loads(self._pipe.recv_bytes())
        answer: list[Any] | EnvFailed = []
        if isinstance(message, NewBlock):
            self._blocks.append(Block(message.shape, self._receive_memory()))
        else:
            self._enter_block()
            try:
                answer = perform(self.share, message)
            except EnvFailed as failed:
                answer = failed
        try:
            packed = messages.dumps(answer)
        except Exception as error:
            problem = self.share.failure(error, message.env_ids[0], "sending its answer")
            packed = messages.dumps(problem)
        self._pipe.send_bytes(packed)

    def _packed(self, mail: dict[int, tuple[int, Any]]) -> bytes:
        try:
            return messages.dumps({env_id: content for env_id, (_, content) in mail.items()})
        except Exception:
            for env_id, (_, content) in mail.items():
                try:
                    messages.dumps(content)
                except Exception as error:
                    mail[env_id] = RAISED, self.share.failure(error, env_id, "sending its info")
            return self._packed(mail)

    def _receive_memory(self) -> Arena:
        fd = reduction.recv_handle(self._pipe)
        try:
            return Arena(mmap.mmap(fd, 0))
        finally:
            os.close(fd)


def main(pipe: Connection, lifeline: Connection, first: int, killed_with_starter: bool) -> None:
    """A worker process, from its start to its end.

    Args:
        pipe: To the parent.
        lifeline: At its end when the parent is.
        first: The first of the worker's environments.
        killed_with_starter: Let the system kill this process when the thread that started it ends.
    """
    settle(lifeline, killed_with_starter)
    worker = None
    try:
        try:
            setup = messages.loads(pipe.recv_bytes())
            worker = Worker(pipe, setup)
            pipe.send_bytes(messages.by_value(worker.spaces()))
        except EnvFailed as failed:
            pipe.send_bytes(messages.dumps(failed))
            return
        except Exception as error:
            problem = EnvFailed.of(error, first, None, "the start of its worker")
            pipe.send_bytes(messages.dumps(problem))
            return
        worker.serve()
    except (ConnectionError, EOFError):
        pass  # the parent is gone, or has given up on this worker
    finally:
        if worker is not None:
            worker.share.close()


def settle(lifeline: Connection, killed_with_starter: bool) -> None:
    """What every worker process does first; arguments as of ``main``."""
    # Ctrl-C at a terminal reaches all processes; the parent decides what comes of it.
    signal.signal(signal.SIGINT, _nothing)
    exit_with_parent(lifeline.fileno(), killed_with_starter)
    _let_the_server_end()
    # For libraries that an environment loads: the cores are taken.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _let_the_server_end() -> None:
    """Multiprocessing's server lives as long as its processes. This one rather ends with it, and
    it with the parent: so no stopped worker is left."""
    server: Any = forkserver._forkserver
    fd = getattr(server, "_forkserver_alive_fd", None)
    if fd is not None:
        os.close(fd)
        # An environment that starts processes gets a server of its own.
        server._forkserver_alive_fd = server._forkserver_address = None


def _nothing(*_: object) -> None:
    """A handler, and not SIG_IGN, as programs that an environment starts would inherit that."""

"""A worker process as the parent sees it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver, reduction, spawn
from multiprocessing.context import BaseContext
from typing import Any

from machin_fast.env.pool import worker

# What the forkserver loads once, so that a worker starts in milliseconds.
_PRELOAD = ["machin_fast.env.pool.worker"]
_NAME = "machin_fast worker"
_start_lock = threading.Lock()


class WorkerGoneError(Exception):
    """The process ended, or its pipe broke."""


def start_context(method: str | None) -> BaseContext:
    """How worker processes start.

    Raises:
        ValueError: By fork, or in a way that this system does not have.
    """
    if method == "fork":
        cuda = "torch.cuda" in sys.modules and sys.modules["torch.cuda"].is_initialized()
        holders = "CUDA is initialised" if cuda else f"{_threads()} threads may hold locks"
        raise ValueError(
            "ActorPool: context must be 'forkserver' or 'spawn', got 'fork'. A forked process "
            f"inherits the state of this one: {holders}"
        )
    available = [m for m in ("forkserver", "spawn") if m in multiprocessing.get_all_start_methods()]
    method = available[0] if method is None else method
    if method not in available:
        raise ValueError(f"ActorPool: context must be one of {available}, got {method!r}")
    if method == "forkserver" and forkserver._forkserver._preload_modules == ["__main__"]:  # type: ignore[attr-defined]
        # The default, which would load the main program and all it imports.
        forkserver.set_forkserver_preload(_PRELOAD)
    return multiprocessing.get_context(method)


def dies_with_starter(context: BaseContext) -> bool:
    """May the system kill a worker when the thread that started it ends?

    A stopped worker cannot see for itself that its parent has died. But a thread of the program
    may well end earlier.
    """
    by_server = context.get_start_method() == "forkserver"
    return by_server or threading.current_thread() is threading.main_thread()


class WorkerProcess:
    """Starts a worker and holds the parent's ends of what connects them.

    Args:
        context: Of multiprocessing.
        number: Of the worker, for its name.
        first: The first of its environments.
        target: What it runs, with its ends of the pipe and of the lifeline, ``first``, ``args``.
        args: Further arguments.
    """

    def __init__(
        self,
        context: BaseContext,
        number: int,
        first: int,
        *,
        target: Callable[..., None] = worker.main,
        args: tuple[Any, ...] = (),
    ) -> None:
        self._pipe, theirs = context.Pipe(duplex=True)
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(  # type: ignore[attr-defined]
            target=target, args=(theirs, lifeline, first, *args), name=f"{_NAME} {number}"
        )
        try:
            with _main_program_stays_out():
                self._process.start()
        except BaseException:
            self._pipe.close()
            self._lifeline.close()
            raise
        finally:
            theirs.close()
            lifeline.close()
        self.pid: int = self._process.pid
        self._limits: dict[int, float] = {}
        self._owns_death_fd = False
        self.death_fd = self._death_fd()

    def send(self, message: bytes, timeout: float) -> None:
        """Sends a message. Whoever waits for the answer finds out if it did not arrive.

        A process that is stopped does not read a long one: it is killed after ``timeout``.
        """
        self._limit(socket.SO_SNDTIMEO, timeout)
        try:
            self._pipe.send_bytes(message)
        except BlockingIOError:
            self.kill()
        except OSError:
            pass

    def _limit(self, option: int, seconds: float) -> None:
        """How long a message may be stuck half-way: a process that is stopped then must not stop
        the parent too."""
        if self._limits.get(option) != seconds:
            self._limits[option] = seconds
            with socket.socket(fileno=os.dup(self._pipe.fileno())) as ours:
                value = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
                ours.setsockopt(socket.SOL_SOCKET, option, value)

    def send_fd(self, fd: int) -> None:
        """Gives the process a file descriptor of its own for the same file."""
        with contextlib.suppress(OSError):
            reduction.send_handle(self._pipe, fd, self.pid)

    def receive(self, timeout: float) -> bytes:
        """Waits for a message.

        Raises:
            TimeoutError: None came.
            WorkerGoneError: The process has ended.
        """
        ready = connection.wait([self._pipe, self.death_fd], timeout)
        if not ready:
            raise TimeoutError
        if self._pipe not in ready and not self._pipe.poll(0):
            raise WorkerGoneError
        self._limit(socket.SO_RCVTIMEO, timeout)
        try:
            return self._pipe.recv_bytes()
        except BlockingIOError:
            raise TimeoutError from None
        except (EOFError, OSError):
            raise WorkerGoneError from None

    def receive_fd(self) -> int:
        """A file descriptor that the process sent after its last message.

        Raises:
            WorkerGoneError: The process ended before.
        """
        try:
            return reduction.recv_handle(self._pipe)
        except (EOFError, OSError, RuntimeError) as error:
            raise WorkerGoneError from error

    def received(self, timeout: float) -> Iterator[bytes]:
        """The messages that are there already. A process that stops in the middle of one is killed
        after ``timeout``."""
        self._limit(socket.SO_RCVTIMEO, timeout)
        try:
            while self._pipe.poll(0):
                yield self._pipe.recv_bytes()
        except BlockingIOError:
            self.kill()
        except (EOFError, OSError):
            pass

    def kill(self) -> None:
        """Ends the process at once, also one that is stopped."""
        with contextlib.suppress(OSError, ValueError):
            self._process.kill()

    def join(self, timeout: float) -> bool:
        """Waits for the process to end; did it?"""
        self._process.join(timeout)
        return self._process.exitcode is not None

    @property
    def exitcode(self) -> int | None:
        """As of ``multiprocessing.Process``: negative is a signal."""
        code: int | None = self._process.exitcode
        return code

    def close(self) -> None:
        """Frees what the parent holds of a process that has ended."""
        self._pipe.close()
        self._lifeline.close()
        if self._owns_death_fd:
            os.close(self.death_fd)
            self._owns_death_fd = False
        with contextlib.suppress(ValueError):  # it still runs
            self._process.close()

    def _death_fd(self) -> int:
        """Readable once the process has ended.

        A pidfd knows at once; what multiprocessing offers waits for the server to notice, and with
        spawn for all children of the worker too.
        """
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(self.pid)
                self._owns_death_fd = True
                return fd
        sentinel: int = self._process.sentinel
        return sentinel


@contextlib.contextmanager
def _main_program_stays_out() -> Iterator[None]:
    """Workers do not import the main program, as other processes of multiprocessing do.

    It would load torch in each of them, and a program without ``if __name__ == "__main__"`` would
    start itself again. Environments travel by cloudpickle and need it not.
    """
    usual = spawn.get_preparation_data

    def ours(name: str) -> dict[str, Any]:
        data = usual(name)
        if name.startswith(_NAME):
            data = {key: value for key, value in data.items() if not key.startswith("init_main")}
        return data

    with _start_lock:
        spawn.get_preparation_data = ours
        try:
            yield
        finally:
            spawn.get_preparation_data = usual


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return threading.active_count()

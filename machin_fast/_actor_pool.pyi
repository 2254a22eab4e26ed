"""The actor pool's engine (csrc/actor_pool): rings and wake-ups in shared memory.

Needs neither torch nor numpy. Whatever waits here lets the GIL go first. Buffers are contiguous;
``ids`` are int64 (``array('q')``, numpy), ``flags`` int32.
"""

from collections.abc import Sequence
from typing import Final, final

from typing_extensions import Buffer

CALL: Final = -1
"""Stands in a worker's ring for "a message waits for you in your pipe"."""

def control_size(num_envs: int, num_workers: int) -> int:
    """Bytes of the control block that a Dispatcher and its Inboxes share."""

@final
class Dispatcher:
    """The parent's end. One thread at a time: a second one gets a RuntimeError, but for ``close``.

    After ``close`` all calls but ``close`` and the figures raise RuntimeError.

    ``owner[env]`` is the worker that steps the environment, -1 if the parent does so itself.
    Initialises the control block that ``fd`` holds; the fd may be closed afterwards.
    """

    def __new__(cls, fd: int, owner: Sequence[int], num_workers: int) -> Dispatcher: ...
    def send(self, ids: Buffer, /) -> None:
        """Posts each environment to its worker; at most one wake-up a worker.

        A ValueError, with nothing posted, if an id is out of range, not dispatched, given twice or
        still in flight.
        """

    def call(self, worker: int, /) -> None:
        """Posts CALL. It is no step: the worker's answer comes through its pipe."""

    def recv(self, ids: Buffer, flags: Buffer, count: int, timeout: float | None, /) -> int:
        """Waits for ``count`` answers, takes at most that many, and says how many.

        Those of one worker come in its order, the workers take turns. Fewer come when ``timeout``
        seconds have passed (None: never), a watched worker has died, the pool was closed, or
        fewer are in flight; a timeout of 0 does not wait.
        """

    def watch(self, worker: int, pidfd: int, /) -> None:
        """Lets ``recv`` look at this pidfd, or any fd that is readable once the worker died.

        The fd is duplicated. -1 ends the watch.
        """

    def dead(self, /) -> list[int]:
        """Watched workers whose process has ended."""

    def forget(self, worker: int, /) -> list[int]:
        """Empties a dead worker's rings and ends its watch; the environments it had in flight.

        Those that it answered and nobody took are among them. Then a new process may be its Inbox.
        """

    def in_flight(self, /) -> int:
        """Steps that were sent and not yet received."""

    def heartbeat_age(self, worker: int, /) -> float:
        """Seconds since this worker last took or answered something; inf before it began."""

    def close(self, /) -> None:
        """Tells all workers to end and wakes them. May be called twice."""

@final
class Inbox:
    """A worker's end."""

    def __new__(cls, fd: int, num_envs: int, num_workers: int, worker: int) -> Inbox: ...
    def take(self, timeout: float | None = None, /) -> list[int] | None:
        """All that is posted (ids, or CALL); waits until there is something.

        An empty list after ``timeout`` seconds, None once the parent has closed.
        """

    def done(self, env: int, flag: int = 0, /) -> None:
        """Publishes what was written for this environment before, with a flag."""

@final
class VersionedBlock:
    """Bytes that one process publishes and others read, never torn."""

    version: int
    """That of the newest whole publication, 0 before the first."""

    def __new__(cls, fd: int, size: int) -> VersionedBlock: ...
    @staticmethod
    def bytes_needed(size: int, /) -> int:
        """Bytes of the memory behind ``fd`` for a block of ``size`` bytes."""

    def publish(self, data: Buffer, /) -> int:
        """Copies ``data`` in; its version: 1, 2, ... One writer at a time."""

    def read(self, into: Buffer, newer_than: int = 0, /) -> int:
        """Copies the newest version out and returns it; ``newer_than`` itself if none is newer."""

def exit_with_parent(fd: int, killed_with_starter: bool = False) -> None:
    """Ends this process at once when the other end of the pipe ``fd`` is closed.

    So no worker outlives its parent, however that ended. The fd may be closed afterwards.
    ``killed_with_starter`` gets stopped processes, too, but at the end of the *thread* that
    started this process (Linux; nothing elsewhere): right if that is the main thread.
    """

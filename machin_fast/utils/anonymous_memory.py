"""Shared memory without a name: nothing is left behind, however the processes end."""

from __future__ import annotations

import importlib
import mmap
import os
from multiprocessing.context import assert_spawning
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any


class AnonymousMemory:
    """Zeroed memory that a process shares with those that it starts.

    Give it to a ``multiprocessing.Process`` (spawn or forkserver) as an argument. All of it is
    allocated at once, so that no later write can fail: where memory is short, this raises.

    Args:
        size: Bytes, at least 1.

    Raises:
        ValueError: ``size`` is less.
        MemoryError: There is not so much; the text says what is needed and what is free.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"AnonymousMemory: size must be at least 1 byte, got {size}")
        free = _free_bytes()
        if free is not None and size > free:
            raise MemoryError(_shortage(size, "free memory"))
        self._map(_create(size), size)

    def _map(self, fd: int, size: int) -> None:
        self.size = size
        self.fd = fd
        """For the engine (``machin_fast._actor_pool``), which maps it by itself; -1 once closed."""
        try:
            self.buffer = mmap.mmap(fd, size)
            """The bytes; ``numpy.frombuffer`` and ``memoryview`` take it."""
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the fd; no process can get the memory from here any more.

        The memory itself lives as long as views of ``buffer`` do. May be called twice.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        if self.fd < 0:
            raise ValueError("AnonymousMemory: the memory must be open to be shared, got it closed")
        return _attach, (DupFd(self.fd), self.size)


def _attach(handle: Any, size: int) -> AnonymousMemory:
    memory = AnonymousMemory.__new__(AnonymousMemory)
    memory._map(handle.detach(), size)
    return memory


def _create(size: int) -> int:
    fd = _nameless_file()
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
    except OSError as error:
        os.close(fd)
        raise MemoryError(_shortage(size, str(error))) from error
    return fd


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("machin_fast")
    shm = importlib.import_module("_posixshmem")
    name = f"/mf-{os.getpid()}-{os.urandom(6).hex()}"
    fd: int = shm.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    shm.shm_unlink(name)
    return fd


def _shortage(size: int, reason: str) -> str:
    return (
        f"AnonymousMemory: size must be at most what is free, got {size} bytes needed and "
        f"{_free_bytes()} free ({reason})"
    )


def _free_bytes() -> int | None:
    """What the machine and this process's control group have left; None if nobody says."""
    found = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    limit = _lines("/sys/fs/cgroup/memory.max")
    used = _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        found.append(int(limit[0]) - int(used[0]))
    return min(found, default=None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []

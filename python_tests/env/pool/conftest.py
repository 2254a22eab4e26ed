"""Nothing may be left of a pool: no process, no zombie, no fd, no thread, no shared memory."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import pytest

from machin_fast.env import ActorPool
from machin_fast.env.pool.process import start_context

PATIENCE = 5  # seconds until what ends is gone; only a failure takes so long


def _processes() -> set[int]:
    """Processes below this one, also those of the server that starts them; zombies too."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, more = set(), {os.getpid()}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more}
        found |= more
    return found


def traces() -> dict[str, set[Any]]:
    """What a pool could leave."""
    # Of shared memory nobody can tell whose it is; faults are tested with nothing beside them.
    beside_others = "PYTEST_XDIST_WORKER" in os.environ
    return {
        "processes": _processes(),
        "fds": {(fd.name, target) for fd in _fds() if (target := _target(fd))},
        "threads": {thread.name for thread in threading.enumerate()},
        "shared memory": set() if beside_others else set(os.listdir("/dev/shm")),  # noqa: PTH208
    }


def _fds() -> list[Path]:
    return list(Path("/proc/self/fd").iterdir())


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:  # the listing's own
        return ""


def left(before: dict[str, set[Any]]) -> dict[str, set[Any]]:
    after = traces()
    return {kind: after[kind] - before[kind] for kind in before if after[kind] - before[kind]}


@pytest.fixture(scope="session", autouse=True)
def _servers() -> None:
    """What multiprocessing keeps for the life of the program."""
    start_context(None)
    forkserver.ensure_running()
    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def _nothing_is_left(_servers: None) -> Iterator[None]:
    gc.collect()
    before = traces()
    yield
    end = time.monotonic() + PATIENCE
    while (found := left(before)) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert not found


@pytest.fixture
def make_pool() -> Iterator[Callable[..., ActorPool]]:
    """Makes pools that are closed after the test."""
    pools = []

    def make(*args: Any, **settings: Any) -> ActorPool:
        pools.append(ActorPool(*args, **settings))
        return pools[-1]

    yield make
    while pools:
        pools.pop().close()

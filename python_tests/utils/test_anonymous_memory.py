"""``AnonymousMemory``: shared, nameless, all there or a clean error."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from machin_fast.utils.anonymous_memory import AnonymousMemory

pytestmark = pytest.mark.alone


def add_one(memory: AnonymousMemory) -> None:
    np.frombuffer(memory.buffer, np.uint8)[:] += 1


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_starts_shares_it(method: str) -> None:
    memory = AnonymousMemory(1000)
    seen = np.frombuffer(memory.buffer, np.uint8)
    assert seen.size == memory.size == 1000
    assert not seen.any()
    process = multiprocessing.get_context(method).Process(target=add_one, args=(memory,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (seen == 1).all()


def test_nothing_has_a_name_and_close_leaves_no_fd() -> None:
    before = len(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))  # noqa: PTH208
    memory = AnonymousMemory(1 << 16)
    assert set(os.listdir("/dev/shm")) == before[1]  # noqa: PTH208
    seen = np.frombuffer(memory.buffer, np.uint8)
    memory.close()
    memory.close()
    seen[0] = 3  # the memory lives as long as its views
    del memory, seen
    assert len(os.listdir("/proc/self/fd")) == before[0]  # noqa: PTH208


def test_a_shortage_is_a_memory_error_that_says_how_much() -> None:
    with pytest.raises(MemoryError, match=rf"got {1 << 60} bytes needed and \d+ free"):
        AnonymousMemory(1 << 60)


def test_a_limit_on_files_is_a_memory_error_and_no_signal() -> None:
    code = """
import resource
from machin_fast.utils.anonymous_memory import AnonymousMemory
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
AnonymousMemory(1 << 20)
try:
    AnonymousMemory((1 << 20) + 1)
except MemoryError as error:
    print(error)
"""
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"got {(1 << 20) + 1} bytes needed and" in got.stdout
    assert "File too large" in got.stdout


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size must be at least 1 byte, got {size}"):
        AnonymousMemory(size)


def test_it_travels_only_to_a_process_that_starts() -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(AnonymousMemory(1))


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the fallback needs shm_open")
def test_where_there_is_no_memfd_the_name_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    memory = AnonymousMemory(100)
    assert set(os.listdir("/dev/shm")) == before  # noqa: PTH208
    np.frombuffer(memory.buffer, np.uint8)[:] = 1

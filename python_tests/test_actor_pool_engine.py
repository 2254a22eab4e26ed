"""``machin_fast._actor_pool`` as Python sees it; what it does is tested in ``cpp_tests``."""

from __future__ import annotations

import array
import ast
import inspect
import math
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import machin_fast._actor_pool
from machin_fast._actor_pool import (
    CALL,
    Dispatcher,
    Inbox,
    VersionedBlock,
    control_size,
)
from machin_fast.utils.anonymous_memory import AnonymousMemory

WAIT = 60.0


@dataclass
class Pool:
    """A dispatcher and room for what it receives."""

    num_envs: int
    num_workers: int

    def __post_init__(self) -> None:
        self.memory = AnonymousMemory(control_size(self.num_envs, self.num_workers))
        owner = [env % self.num_workers for env in range(self.num_envs)]
        self.dispatcher = Dispatcher(self.memory.fd, owner, self.num_workers)
        self.ids = np.full(self.num_envs, -1)
        self.flags = np.full(self.num_envs, -1, np.int32)

    def inbox(self, worker: int = 0) -> Inbox:
        return Inbox(self.memory.fd, self.num_envs, self.num_workers, worker)

    def receive(self, count: int, timeout: float | None = WAIT) -> list[tuple[int, int]]:
        n = self.dispatcher.recv(self.ids, self.flags, count, timeout)
        return list(zip(self.ids[:n].tolist(), self.flags[:n].tolist(), strict=True))


@pytest.fixture
def pool() -> Pool:
    return Pool(3, 1)


def test_workers_need_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, machin_fast._actor_pool, machin_fast.utils.anonymous_memory; "
        "print({'torch', 'numpy', 'gymnasium'} & sys.modules.keys())"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.strip() == "set()"


def stub_signatures() -> Iterator[tuple[str, list[str]]]:
    """Of each function and method of the stub, its parameters."""
    stub = Path(machin_fast._actor_pool.__file__ or "").parent / "_actor_pool.pyi"
    if not stub.exists():  # an editable installation
        stub = Path(machin_fast.__file__ or "").parent / "_actor_pool.pyi"
    for node in ast.parse(stub.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for each in inner:
            if not isinstance(each, ast.FunctionDef):
                continue
            names = [x.arg for x in (*each.args.posonlyargs, *each.args.args)]
            if isinstance(node, ast.ClassDef):
                own = each.name != "__new__"
                yield f"{node.name}.{each.name}" if own else node.name, names if own else names[1:]
            else:
                yield each.name, names


@pytest.mark.parametrize(("name", "parameters"), list(stub_signatures()))
def test_the_stub_says_what_the_library_has(name: str, parameters: list[str]) -> None:
    found = machin_fast._actor_pool
    for part in name.split("."):
        found = getattr(found, part)
    assert list(inspect.signature(found).parameters) == parameters


def test_the_stub_leaves_nothing_out() -> None:
    names = {name for name, _ in stub_signatures()} | {"CALL", "VersionedBlock.version"}
    module = machin_fast._actor_pool
    public = {name for name in vars(module) if not name.startswith("_")}
    for each in (Dispatcher, Inbox, VersionedBlock):
        public |= {f"{each.__name__}.{n}" for n in vars(each) if not n.startswith("_")}
    assert public == names


def test_posts_and_answers_go_round(pool: Pool) -> None:
    inbox = pool.inbox()
    pool.dispatcher.send(np.array([2, 0]))
    pool.dispatcher.call(0)
    assert pool.dispatcher.in_flight() == 2
    assert inbox.take() == [2, 0, CALL]
    inbox.done(0)
    inbox.done(2, 7)
    assert pool.receive(3) == [(0, 0), (2, 7)]
    assert pool.dispatcher.in_flight() == 0


def test_any_contiguous_buffer_of_the_right_type_will_do(pool: Pool) -> None:
    inbox = pool.inbox()
    pool.dispatcher.send(array.array("q", [1]))
    pool.dispatcher.send(memoryview(np.array([0])))
    for env in inbox.take() or []:
        inbox.done(env)
    ids, flags = array.array("q", [9, 9]), array.array("i", [9, 9])
    assert pool.dispatcher.recv(ids, flags, 2, None) == 2
    assert (ids.tolist(), flags.tolist()) == ([1, 0], [0, 0])


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        (np.array([0], np.int32), "ids must be a buffer of one of the formats lq"),
        (np.array([0.0]), "ids must be a buffer of one of the formats lq"),
        (np.arange(4)[::2], "ids must be contiguous"),
        (np.array([3]), "ids must be an environment, got 3 at position 0"),
    ],
)
def test_bad_ids_are_refused(pool: Pool, ids: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=f"Dispatcher.send: {fault}"):
        pool.dispatcher.send(ids)
    assert pool.dispatcher.in_flight() == 0


def test_recv_refuses_what_it_cannot_fill(pool: Pool) -> None:
    def refused(ids: Any, flags: Any, count: int, timeout: float | None = 0.0) -> str:
        with pytest.raises(ValueError, match="recv") as error:
            pool.dispatcher.recv(ids, flags, count, timeout)
        return str(error.value)

    fixed = np.zeros(3, np.int64)
    fixed.flags.writeable = False
    assert "ids must be contiguous and writable, got ndarray" in refused(fixed, pool.flags, 1)
    assert "flags must be a buffer of one of the formats i" in refused(pool.ids, pool.ids, 1)
    assert "count must be in [0, 2]" in refused(pool.ids, pool.flags[:2], 3)
    assert "timeout must be None or not negative, got -1" in refused(pool.ids, pool.flags, 1, -1.0)
    assert "timeout must be None or not negative, got nan" in refused(
        pool.ids, pool.flags, 1, math.nan
    )


def test_waits_end_with_their_time(pool: Pool) -> None:
    assert pool.inbox().take(0.001) == []
    pool.dispatcher.send(np.array([1]))
    assert pool.receive(1, 0.001) == []
    assert pool.receive(1, 0) == []


def test_another_thread_is_refused_and_may_close(pool: Pool) -> None:
    pool.dispatcher.send(np.array([1]))
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(pool.receive(1, None)))
    waiting.start()
    with pytest.raises(RuntimeError, match="another thread is within a call"):  # noqa: PT012
        while True:  # until the other one waits
            pool.dispatcher.dead()
    pool.dispatcher.close()
    waiting.join(WAIT)
    assert got == [[]]


def test_after_close_nothing_goes(pool: Pool) -> None:
    inbox = pool.inbox()
    pool.dispatcher.send(np.array([0]))
    pool.dispatcher.close()
    pool.dispatcher.close()
    assert inbox.take() is None
    for call in (
        lambda: pool.dispatcher.send(np.array([1])),
        lambda: pool.dispatcher.call(0),
        lambda: pool.receive(1),
        pool.dispatcher.dead,
    ):
        with pytest.raises(RuntimeError, match=r"Dispatcher.\w+: the pool is closed"):
            call()


def test_arguments_of_the_wrong_kind_are_refused(pool: Pool) -> None:
    for call in (
        lambda: Dispatcher(pool.memory.fd, ["a"], 1),  # type: ignore[list-item]
        lambda: pool.dispatcher.call("a"),  # type: ignore[arg-type]
        lambda: pool.dispatcher.send(),  # type: ignore[call-arg]
        lambda: pool.dispatcher.send(5),  # type: ignore[arg-type]
        lambda: pool.inbox().done("a"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError, match=r"Dispatcher: num_envs must be in \[1, 1048576\], got 0"):
        Dispatcher(pool.memory.fd, [], 1)
    with pytest.raises(ValueError, match=r"Dispatcher: fd must hold \d+ bytes, got"):
        Dispatcher(pool.memory.fd, [0] * 10_000, 1)
    with pytest.raises(RuntimeError, match="fstat: Bad file descriptor"):
        Dispatcher(-1, [0], 1)


def test_a_versioned_block_checks_sizes() -> None:
    memory = AnonymousMemory(VersionedBlock.bytes_needed(5))
    block = VersionedBlock(memory.fd, 5)
    assert block.publish(b"hello") == 1
    into = bytearray(5)
    assert block.read(into) == 1
    assert into == b"hello"
    assert block.version == 1
    with pytest.raises(ValueError, match=r"publish: data must be of 5 bytes, got 4"):
        block.publish(b"four")
    with pytest.raises(ValueError, match=r"read: into must be of 5 bytes, got 6"):
        block.read(bytearray(6))
    with pytest.raises(ValueError, match="into must be contiguous and writable, got bytes"):
        block.read(b"fixed")
    with pytest.raises(ValueError, match="newer_than must not be negative, got -1"):
        block.read(into, -1)


# -- processes ---------------------------------------------------------------------------------


def answer(memory: AnonymousMemory, num_envs: int) -> None:
    inbox = Inbox(memory.fd, num_envs, 1, 0)
    while (entries := inbox.take()) is not None:
        for env in entries:
            inbox.done(env, 10 * env)


@pytest.fixture
def started() -> Iterator[Callable[..., BaseProcess]]:
    running = []

    def start(target: Any, *arguments: Any) -> BaseProcess:
        process = multiprocessing.get_context("forkserver").Process(target=target, args=arguments)
        process.start()
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.join(WAIT)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches pidfds")
def test_a_worker_process_answers_until_it_dies(
    pool: Pool, started: Callable[..., BaseProcess]
) -> None:
    worker = started(answer, pool.memory, 3)
    assert worker.pid is not None
    pidfd = os.pidfd_open(worker.pid)
    pool.dispatcher.watch(0, pidfd)
    os.close(pidfd)
    pool.dispatcher.send(np.arange(3))
    assert pool.receive(3) == [(0, 0), (1, 10), (2, 20)]
    assert pool.dispatcher.heartbeat_age(0) < WAIT

    os.kill(worker.pid, signal.SIGKILL)
    worker.join(WAIT)
    pool.dispatcher.send(np.arange(3))
    assert pool.receive(3, None) == []
    assert pool.dispatcher.dead() == [0]
    assert pool.dispatcher.forget(0) == [0, 1, 2]
    assert pool.dispatcher.dead() == []

    heir = started(answer, pool.memory, 3)
    pool.dispatcher.send(np.array([2]))
    assert pool.receive(1) == [(2, 20)]
    pool.dispatcher.close()
    heir.join(WAIT)
    assert heir.exitcode == 0


def test_ctrl_c_ends_a_wait() -> None:
    code = """
import os, signal, threading
import numpy as np
from machin_fast._actor_pool import Dispatcher, control_size
from machin_fast.utils.anonymous_memory import AnonymousMemory
memory = AnonymousMemory(control_size(1, 1))
dispatcher = Dispatcher(memory.fd, [0], 1)
dispatcher.send(np.array([0]))
threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    dispatcher.recv(np.zeros(1, np.int64), np.zeros(1, np.int32), 1, None)
except KeyboardInterrupt:
    print("interrupted", dispatcher.in_flight())
"""
    got = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=WAIT
    )
    assert got.stdout.strip() == "interrupted 1"


# The middle process starts one that ends with it, and is killed.
MIDDLE = """
import os, signal, sys
from machin_fast._actor_pool import exit_with_parent
here, there = os.pipe()
child = os.fork()
if child == 0:
    os.close(there)
    exit_with_parent(here, sys.argv[1] == "stopped")
    os.close(here)
    print(os.getpid(), flush=True)
    while True:
        signal.pause()
os.set_blocking(here, True)
sys.stdin.readline()
if sys.argv[1] == "stopped":
    os.kill(child, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a pidfd")
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_process_ends_with_its_parent(state: str) -> None:
    middle = subprocess.Popen(
        [sys.executable, "-c", MIDDLE, state],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert middle.stdin is not None
    assert middle.stdout is not None
    pidfd = os.pidfd_open(int(middle.stdout.readline()))
    middle.communicate("go\n", WAIT)
    assert select.select([pidfd], [], [], WAIT)[0] == [pidfd]
    os.close(pidfd)

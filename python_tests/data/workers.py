"""Processes that share replays with a test, and what they do there.

A module of its own, because processes that are spawned import what they run by its name.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor

from machin_fast.data import Batch, SharedReplay, Trajectory

Replays = Mapping[str, SharedReplay]
CONTEXT = torch.multiprocessing.get_context("spawn")
PATIENCE = 60  # seconds for a process to start, answer or end; only a failure takes so long


class Worker:
    """A process that does one thing after another to replays that it shares."""

    def __init__(self, replays: Replays) -> None:
        self._connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, dict(replays)), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, function: Callable[..., Any], *args: Any) -> None:
        """Lets it call ``function(replays, *args)``; both must be picklable."""
        self._connection.send((function, args))

    def is_done(self, within: float = 0) -> bool:
        """Is there a result, now or within so many seconds?"""
        return self._connection.poll(within)

    def result(self) -> Any:
        """What the function returned; raises what it raised, EOFError if the process died."""
        assert self._connection.poll(PATIENCE), "the worker does not answer"
        succeeded, result = self._connection.recv()
        if not succeeded:
            raise result
        return result

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        self.begin(function, *args)
        return self.result()

    def close(self) -> None:
        """Lets it end, without waiting for that."""
        self._connection.close()

    def end(self) -> int | None:
        """Ends the process, if it lives; returns its exit code."""
        self.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
        return self.process.exitcode


def _serve(connection: Any, replays: Replays) -> None:
    with contextlib.suppress(EOFError, OSError):  # nobody asks any more
        while True:
            function, args = connection.recv()
            try:
                answer = True, function(replays, *args)
            except Exception as error:
                answer = False, error
            connection.send(answer)


# -- rows --------------------------------------------------------------------------------------


def rows(first: int, n: int) -> dict[str, Tensor]:
    """Rows that tell their own number in each column, small and large."""
    number = torch.arange(first, first + n)
    return {
        "number": number,
        "state": number[:, None] + torch.tensor([0.0, 0.25, 0.5]),
        "reward": -number.double(),
        "pixels": (number % 251).to(torch.uint8)[:, None, None].expand(n, 10, 40),
    }


def assert_whole(batch: Batch) -> None:
    """All columns of each row are of the same number."""
    number = batch.number
    pixels = (number % 251)[..., None, None]
    assert torch.equal(batch.state, number[..., None] + torch.tensor([0.0, 0.25, 0.5]))
    assert torch.equal(batch.reward, -number.double())
    assert batch.pixels.eq(pixels).all()


# -- what workers do: functions of the replays, and plain results --------------------------------


def facts(replays: Replays, name: str) -> dict[str, Any]:
    """What a process sees of a replay."""
    replay = replays[name]
    seen: dict[str, Any] = {
        "appended": replay.appended,
        "oldest": replay.oldest,
        "stale": replay.stale_updates,
        "beta": replay.current_beta,
    }
    if len(replay):
        batch = replay.rows(torch.arange(replay.oldest, replay.appended))
        assert_whole(batch)
        seen["numbers"] = batch.number.tolist()
    if replay.priority:
        seen.update(largest=replay.max_priority, masses=replay.masses().tolist())
    return seen


def append(replays: Replays, name: str, first: int, n: int) -> None:
    replays[name].append(**rows(first, n))


def append_badly(replays: Replays, name: str) -> None:
    replays[name].append(number=torch.zeros(3))


def append_episodes(replays: Replays, name: str, lengths: list[int]) -> None:
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    with replays[name].turn():  # rows are numbered as the replay does
        replays[name].append(Trajectory(rows(replays[name].appended, int(bounds[-1])), bounds))


def sample(replays: Replays, name: str, n: int) -> tuple[list[int], list[float]]:
    batch = replays[name].sample(n)
    assert_whole(batch)
    return batch.index.tolist(), batch.weight.tolist()


def sample_windows(replays: Replays, name: str, n: int) -> list[list[int]]:
    batch = replays[name].sample_windows(n)
    assert_whole(batch)
    return batch.number.t().tolist()


def update_priority(replays: Replays, name: str, index: list[int], priority: list[float]) -> None:
    replays[name].update_priority(torch.tensor(index), torch.tensor(priority))


def clear(replays: Replays, name: str) -> None:
    replays[name].clear()


def save(replays: Replays, name: str, path: str) -> None:
    replays[name].save(path)


def load(replays: Replays, name: str, path: str) -> None:
    replays[name].load(path)


def write_and_sample(replays: Replays, name: str, writer: int, blocks: int, n: int) -> None:
    """Appends ``blocks`` times n rows; samples as often."""
    replay = replays[name]
    for block in range(blocks):
        replay.append(**rows(writer + block * n, n))
        assert_whole(replay.sample(5))


def append_until(replays: Replays, names: list[str], end: str) -> None:
    """Appends episodes to all ``names``, until there is a row in ``end``."""
    while not len(replays[end]):
        for name in names:
            append_episodes(replays, name, [3, 1, 5])


def die_within_a_call(replays: Replays, name: str) -> None:
    """Is killed when the lock is taken."""
    with replays[name].turn():
        os.kill(os.getpid(), signal.SIGKILL)

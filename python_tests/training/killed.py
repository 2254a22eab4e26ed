"""Processes that are killed while they write checkpoints: see test_killed.py.

python killed.py FOLDER prints a JSON object of what was found after each kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from machin_fast.training.checkpoints import Checkpoints

KILLS = 50
FIRST = 100  # step of the checkpoint that is there before


def states(step: int) -> dict[str, Any]:
    """All of one step, in several files."""
    return {
        "algorithm": {"weight": torch.full((50_000,), step), "step": step},
        "trainer": {"step": step},
        "environments": {"step": step},
    }


def save_on(folder: Path, told: int) -> None:
    """Writes one checkpoint after the other, and tells of each that is written."""
    checkpoints = Checkpoints(folder, keep=2)
    os.write(told, b"\n")
    for step in range(FIRST + 1, 1_000_000):
        checkpoints.save(states(step), step=step)
        os.write(told, b"%d\n" % step)


def save_and_die(folder: Path, told: int, at: int) -> None:
    """Dies when it is about to touch files for the time ``at``; Python tells of each time."""
    touched = 0

    def die(event: str, _: Any) -> None:
        nonlocal touched
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            touched += 1
            if touched > at:
                os.kill(os.getpid(), signal.SIGKILL)

    checkpoints = Checkpoints(folder, keep=1)
    sys.addaudithook(die)
    checkpoints.save(states(FIRST + 1), step=FIRST + 1)
    os.write(told, b"%d\n" % (FIRST + 1))


def in_child(work: Callable[[int], None], seconds: float | None) -> tuple[int, bool]:
    """Runs ``work`` in a process that is killed after some time; the last step that it told of,
    and whether it was killed."""
    hear, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(hear)
            work(tell)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(hear, "rb") as pipe:
        if seconds is not None:
            pipe.readline()
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        told = pipe.read().split()
    return int(told[-1]) if told else FIRST, os.WIFSIGNALED(status)


def found(folder: Path, told: int) -> dict[str, Any]:
    """What is there after a kill."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        latest = Checkpoints(folder).latest()
    loaded = [latest.load(name) for name in ("algorithm", "trainer", "environments")]
    whole = all(each["step"] == latest.step for each in loaded)
    whole &= bool((loaded[0]["weight"] == latest.step).all())
    left = sum(path.name.startswith(".") for path in folder.iterdir())
    return {
        "step": latest.step, "told": told, "whole": whole, "left": left,
        "passed_over": [str(each.message) for each in warned],
    }  # fmt: skip


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    draw = random.Random(0)
    result: dict[str, list[Any]] = {"anywhere": [], "at_each_touch": []}
    began = time.perf_counter()
    Checkpoints(folder / "first").save(states(FIRST), step=FIRST)
    one_save = time.perf_counter() - began
    for i in range(KILLS):
        place = folder / f"anywhere_{i}"
        Checkpoints(place).save(states(FIRST), step=FIRST)
        told, _ = in_child(lambda tell: save_on(place, tell), draw.uniform(0, 3 * one_save))  # noqa: B023
        result["anywhere"].append(found(place, told))
    killed, at = True, 0
    while killed:
        place = folder / f"touch_{at}"
        Checkpoints(place).save(states(FIRST), step=FIRST)
        told, killed = in_child(lambda tell: save_and_die(place, tell, at), None)  # noqa: B023
        result["at_each_touch"].append(found(place, told))
        at += 1
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

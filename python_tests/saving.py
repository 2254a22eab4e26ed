"""What tests of saving share: something happens at a chosen point of a save, such as a kill."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class Events:
    """Calls and returns of all functions, in Python and C, from the first opened file on."""

    def __init__(self, act_at: int | None = None, act: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._act_at = act_at
        self._act = act

    def __call__(self, _: object, kind: str, function: object) -> None:
        self.count += self.count > 0 or (kind == "c_call" and function is io.open)
        if self.count == self._act_at:
            self._act_at = None
            self._act()

    def __enter__(self) -> Events:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def kill_at(point: int, save: Callable[[], None]) -> None:
    """Saves in a forked process, which is killed at that event."""
    child = os.fork()
    if not child:
        with Events(point, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            save()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL


def outcomes_of(script: str, path: Path) -> list[str]:
    """The words that a test module prints when it is run with ``path``: in a process of one
    thread, which may fork."""
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, script, path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": here},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def files_beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each != path)

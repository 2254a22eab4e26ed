"""Profiles of training loops."""

from __future__ import annotations

import io
import json
import os
import platform
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console, Group

from machin_fast.training.profiling import report, trace
from machin_fast.training.profiling.advice import Facts, advice, slowest
from machin_fast.training.profiling.instruments import Counts, Instruments
from machin_fast.training.profiling.watch import Watch
from machin_fast.utils.stages import OTHER, Stages, set_counting

SCHEMA_VERSION = 1


class Profile:
    """Where the time of a loop goes; see ``profile``.

    Attributes:
        stages: Times by stage; complete when the profile is closed.
    """

    def __init__(self, trace: str | os.PathLike[str] | None = None) -> None:
        self._trace = None if trace is None else Path(trace)
        self.stages = Stages(most_spans=_MOST_SPANS if trace is not None else 0)
        self._counts = Counts()
        self._instruments = Instruments(self.stages, self._counts)
        self._watch: Watch | None = None
        self._cpu_seconds = 0.0
        self._state = "new"

    # -- measuring -----------------------------------------------------------------------------

    def __enter__(self) -> Profile:
        if self._state != "new":
            raise RuntimeError("profile: a profile must be entered once, got a second time")
        if (other := set_counting(self.stages)) is not None:
            set_counting(other)
            raise RuntimeError("profile: profiles must not be inside each other, got one in one")
        self._state = "open"
        try:
            if self._trace is not None:
                self._trace.parent.mkdir(parents=True, exist_ok=True)
                self._trace.touch()  # or the run would be for nothing
            self._instruments.attach()
            self._watch = Watch()
        except BaseException:
            self._close()
            raise
        self._cpu_seconds = time.process_time()
        self.stages.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stages.end()
        self._cpu_seconds = time.process_time() - self._cpu_seconds
        self._close()
        if self._trace is not None:
            trace.write(self._trace, self.stages)

    def _close(self) -> None:
        self._state = "closed"
        self._instruments.detach()
        set_counting(None)
        if self._watch is not None:
            self._watch.close()

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Marks a part of your own loop: ``with p.stage("act"): ...``.

        Args:
            name: Of the stage: one of those that there are, or another.

        Returns:
            To enter with ``with``.
        """
        return self.stages(name)

    # -- what came out -------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Time that was profiled."""
        return self.stages.seconds()

    @property
    def steps(self) -> int:
        """Steps of environments, without those of evaluations."""
        return self._counts.steps

    @property
    def updates(self) -> int:
        """Batches learned from."""
        return self._counts.updates

    def summary(self) -> dict[str, Any]:
        """All figures.

        Returns:
            JSON: seconds, counts and rates; of each stage its time, share, calls and bytes; of
            each worker process how much it worked; how busy the GPU was, None without one; the
            slowest stage, and what to try.
        """
        seconds = max(self.seconds, 1e-9)
        stages = [
            {
                "name": name,
                "seconds": stage.seconds,
                "share": stage.seconds / seconds,
                "calls": stage.calls,
                "bytes": stage.bytes,
            }
            for name, stage in self.stages.items()
        ]
        watch = self._watch
        workers = [] if watch is None else [each for each in watch.workers.values() if each.seconds]
        gpu = None if watch is None or not watch.gpu else sum(watch.gpu) / len(watch.gpu)
        facts = Facts(
            shares={name: stage.seconds / seconds for name, stage in self.stages.items()},
            envs=self._counts.envs,
            workers=[each.share for each in workers],
            cores=cores(),
            cuda=torch.cuda.is_available(),
            gpu_busy=gpu,
        )
        return {
            "schema_version": SCHEMA_VERSION,
            "seconds": self.seconds,
            "steps": self.steps,
            "updates": self.updates,
            "steps_per_second": self.steps / seconds,
            "updates_per_second": self.updates / seconds,
            "stages": stages,
            "workers": [
                {
                    "pid": each.pid,
                    "seconds": each.seconds,
                    "working": each.share,
                    "waiting": max(0.0, 1 - each.share),
                }
                for each in workers
            ],
            "cores_busy": self._cpu_seconds / seconds,
            "gpu_busy": gpu,
            "slowest": slowest(facts.shares),
            "advice": advice(facts),
            "machine": {
                "cores": facts.cores,
                "threads": torch.get_num_threads(),
                "torch": str(torch.__version__),
                "gpu": torch.cuda.get_device_name() if facts.cuda else None,
                "python": platform.python_version(),
            },
        }

    def __rich__(self) -> Group:
        return report.tables(self.summary())

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=100).print(self)
        return text.getvalue().rstrip()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes ``summary`` as JSON.

        Args:
            path: Of the file.

        Raises:
            OSError: It cannot be written.
        """
        Path(path).write_text(json.dumps(self.summary(), indent=2) + "\n", encoding="utf-8")

    def draw(self, path: str | os.PathLike[str], *, title: str = "Where the time goes") -> None:
        """Draws a bar for each stage.

        Args:
            path: Of the picture; the ending names the format, for example ``.png``.
            title: Stands above it.

        Raises:
            MissingExtraError: matplotlib is not installed.
            OSError: It cannot be written.
        """
        report.draw(self.summary(), Path(path), title)


_MOST_SPANS = 1_000_000


def profile(trace: str | os.PathLike[str] | None = None) -> Profile:
    """Shows where the time of a loop goes: of ours, or of your own.

    What steps environments (Gymnasium's, ours), acts, stores, draws batches, sets priorities and
    learns (our algorithms and buffers, torch's optimizers) is timed within:

        with profile(trace="run.json") as p:
            train()
        print(p)

    Only the thread that enters it is timed. Nothing costs anything outside of it.

    Args:
        trace: File to write the time of each stay in a stage to, for chrome://tracing or
            ui.perfetto.dev; of the first million.

    Returns:
        To enter with ``with``.

    Raises:
        RuntimeError: When entered: another one is open.
        OSError: When entered: the file cannot be written.
    """
    return Profile(trace)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


__all__ = ["OTHER", "Profile", "profile"]

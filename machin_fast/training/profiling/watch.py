"""What goes on beside the loop: its worker processes, and the GPU. Looked at by a thread, some
times a second."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_INTERVAL = 0.1


@dataclass
class Worker:
    """A process that this one, or one that it started, has started.

    Attributes:
        pid: Of the process.
        seconds: How long it was watched.
        working: Seconds in which it computed, by the clock of its CPU time.
    """

    pid: int
    seconds: float = 0.0
    working: float = 0.0

    @property
    def share(self) -> float:
        """Part of the time in which it worked, not waited; more than 1 on several cores."""
        return self.working / self.seconds if self.seconds else 0.0


@dataclass
class Watch:
    """Looks until it is closed.

    Attributes:
        workers: By pid, those that are gone as well. Empty where the system does not tell.
        gpu: Parts of the last moments in which a kernel ran on the GPU, one of each look.
    """

    workers: dict[int, Worker] = field(default_factory=dict)
    gpu: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._since: dict[int, tuple[float, float]] = {}
        self._busy = _gpu_meter()
        self._closed = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._run, name="profile", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks a last time."""
        self._closed.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._closed.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        now = time.perf_counter()
        for pid in _leaves():
            try:
                working = _cpu_seconds(pid)
            except OSError:  # it has just ended
                continue
            begin, before = self._since.setdefault(pid, (now, working))
            worker = self.workers.setdefault(pid, Worker(pid))
            worker.seconds, worker.working = now - begin, working - before
        if self._busy is not None and (busy := self._busy()) is not None:
            self.gpu.append(busy)


def _leaves() -> list[int]:
    """Processes below this one that have none below them; without those by which multiprocessing
    starts others and cleans up after them. None where the system does not tell."""
    leaves: list[int] = []
    own = _children(os.getpid())
    below = list(own)
    while below:
        pid = below.pop()
        children = _children(pid)
        below += children
        # What a fork server started looks like it, but is not our own child.
        if not children and not (pid in own and _only_helps(pid)):
            leaves.append(pid)
    return leaves


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # the thread has just ended
            continue
    return found


def _only_helps(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return True
    return b"multiprocessing.resource_tracker" in words or b"multiprocessing.forkserver" in words


def _cpu_seconds(pid: int) -> float:
    # The name of the program, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


def _gpu_meter() -> Callable[[], float | None] | None:
    """Asks NVIDIA's library how busy the GPU that torch uses is; None without either."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    device, found = ctypes.c_void_p(), _Utilization()
    uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}".encode()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(device)):
        return None

    def busy() -> float | None:
        failed = nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(found))
        return None if failed else found.gpu / 100

    return busy if busy() is not None else None  # parts of a GPU (MIG) do not tell

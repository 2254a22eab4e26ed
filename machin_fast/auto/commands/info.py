"""``machin-fast info``."""

from __future__ import annotations

import os
import platform

import torch

from machin_fast import build_info
from machin_fast.training.profiling.profile import cores


def run() -> int:
    """Prints what was built, what it runs on and what is in use.

    Returns:
        0.
    """
    print(build_info())
    print(f"python: {platform.python_version()}")
    print(f"system: {platform.platform()}")
    print(f"cpu: {_cpu_name()}, {cores()} of {os.cpu_count()} cores may be used")
    print(f"cpu_instructions: {torch.backends.cpu.get_cpu_capability()} (torch)")
    print(f"torch_threads: {torch.get_num_threads()}")
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        memory = properties.total_memory / 2**30
        print(f"cuda:{i}: {properties.name}, {memory:.0f} GiB, compute {properties.major}."
              f"{properties.minor}")  # fmt: skip
    if not torch.cuda.device_count():
        print("gpu: none that torch can use")
    return 0


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

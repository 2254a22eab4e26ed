"""Loads the compiled library, which registers ``torch.ops.machin_fast``."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import torch  # first: the library finds libtorch by its name in this process

_REBUILD = (
    "Rebuild it with `pip install --force-reinstall --no-deps machin_fast`, "
    "in a checkout with `pip install .`."
)


def _find(name: str) -> Path | None:
    """The file of the library ``name``; MACHIN_FAST_LIBRARY overrules (sanitizer builds)."""
    override = os.environ.get("MACHIN_FAST_LIBRARY")
    if override:
        return Path(override)
    spec = importlib.util.find_spec(f"machin_fast.{name}")
    return Path(spec.origin) if spec is not None and spec.origin else None


def _load() -> ModuleType:
    """The library with CUDA kernels if torch has CUDA and they were built, else the CPU one."""
    names = ("_ops_cuda", "_ops") if torch.version.cuda else ("_ops",)
    for name in names:
        path = _find(name)
        if path is None:
            continue
        # The init function is named after the module, and an override may be either library.
        full_name = f"machin_fast.{path.name.partition('.')[0]}"
        loader = importlib.machinery.ExtensionFileLoader(full_name, str(path))
        spec = importlib.util.spec_from_loader(full_name, loader)
        assert spec is not None
        try:
            module = importlib.util.module_from_spec(spec)
            loader.exec_module(module)
        except (ImportError, OSError) as error:
            raise ImportError(
                f"machin_fast: the compiled library {path} did not load with torch "
                f"{torch.__version__} ({error}). {_REBUILD}"
            ) from error
        sys.modules[full_name] = module
        return module
    raise ImportError(
        f"machin_fast: the compiled library {names[-1]} must be in the package, it is not in "
        f"{Path(__file__).parent}. {_REBUILD}"
    )


library = _load()

direct_calls: bool = library.connect(torch.Tensor)
"""Whether classes may call the library past torch's dispatcher (csrc/bindings/direct.h)."""


@dataclasses.dataclass(frozen=True)
class BuildInfo:
    """What was built, and what of it is in use."""

    version: str
    torch_in_use: str
    torch_built_with: str
    torch_least: str
    cpu_instruction_set: str
    """baseline (x86-64-v2, or what the machine is otherwise), avx2 or avx512."""
    cpu_threads: int
    cuda: str | None
    """CUDA version of the kernels in use; None without them."""
    cuda_reason: str
    """Why the loaded library has CUDA kernels or has not."""

    def __str__(self) -> str:
        return "\n".join(f"{key}: {value}" for key, value in dataclasses.asdict(self).items())


def build_info() -> BuildInfo:
    """Facts about the installed build, for bug reports and for the curious.

    Returns:
        Version, torch in use, torch built with and the least it needs, CPU instruction set in
        use, threads, and CUDA: built or not, and why.
    """
    return BuildInfo(
        torch_in_use=torch.__version__,
        cpu_threads=torch.get_num_threads(),
        **library.facts(),
    )

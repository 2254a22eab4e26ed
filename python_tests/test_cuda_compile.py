"""CUDA sources compile, also where no GPU can run them.

The kernels go through nvcc; the glue around them, as a CUDA build sees it, through the C++
compiler, which a torch without CUDA would never show it to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths

ROOT = Path(__file__).parents[1]
KERNELS = sorted(ROOT.glob("csrc/ops/*.cu"))
GLUE = sorted(
    {*ROOT.glob("csrc/ops/*.cpp"), *ROOT.glob("csrc/bindings/*.cpp")}
    - {*ROOT.glob("csrc/ops/*_cpu.cpp")}
)
COMMON = ["-std=c++20", f"-I{ROOT / 'csrc'}"]

_nvcc = shutil.which("nvcc")
_cxx = shutil.which(os.environ.get("CXX", "c++"))
pytestmark = pytest.mark.skipif(_nvcc is None, reason="no nvcc on the PATH")

Result = subprocess.CompletedProcess[str]


def _run(*command: object) -> Result:
    return subprocess.run([str(x) for x in command], capture_output=True, text=True, check=False)


def compile_kernel(source: Path, target: Path) -> Result:
    """Both architectures that we ship, warnings being errors."""
    architectures = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in (80, 90)]
    strict = ["-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra"]
    return _run(_nvcc, "-c", *COMMON, *architectures, *strict, source, "-o", target)


def check_glue(source: Path) -> Result:
    assert _nvcc is not None
    # nvcc knows where its headers are, wherever it was called from.
    dry = _run(_nvcc, "--dryrun", "-x", "cu", "-c", "empty.cu").stderr
    (top,) = [line.split("=", 1)[1] for line in dry.splitlines() if line.startswith("#$ TOP=")]
    system = [*include_paths(), f"{top}/include", sysconfig.get_paths()["include"]]
    recipe = (ROOT / "cmake" / "python_libraries.cmake").read_text()
    defines = [
        "-DMF_WITH_CUDA", "-DUSE_CUDA", "-DMF_ALL_ISAS", "-DMF_MODULE=_ops_cuda",
        *(f"-D{target}" for target in re.findall(r"\bTORCH_TARGET_VERSION=\w+", recipe)),
        *(f'-D{text}"' for text in re.findall(r'\bMF_\w+="', recipe)),
    ]  # fmt: skip
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fvisibility=hidden"]
    includes = [x for folder in system for x in ("-isystem", folder)]
    return _run(_cxx, "-fsyntax-only", *COMMON, *strict, *defines, *includes, source)


@pytest.fixture(scope="module")
def compiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future[Result]]]:
    """What this run asks for, two at a time."""
    folder = tmp_path_factory.mktemp("cuda")
    wanted = [
        item.callspec.params["source"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "compiled" in item.fixturenames
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {
            source: pool.submit(compile_kernel, source, folder / f"{source.stem}.o")
            if source.suffix == ".cu"
            else pool.submit(check_glue, source)
            for source in wanted
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("source", KERNELS + GLUE, ids=lambda source: source.name)
def test_compiles(source: Path, compiled: dict[Path, Future[Result]]) -> None:
    result = compiled[source].result()
    assert result.returncode == 0, result.stderr


def test_sources_are_found() -> None:
    assert {"gae.cu"} <= {source.name for source in KERNELS}
    assert {"gae.cpp", "module.cpp"} <= {source.name for source in GLUE}


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "bad.cu"
    source.write_text("__global__ void kernel(int* p) { int unused; p[0] = 1; }\n")
    result = compile_kernel(source, tmp_path / "bad.o")
    assert result.returncode != 0
    assert "unused" in result.stderr

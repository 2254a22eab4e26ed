"""The library as it was built: its ABI, what it says about itself, and how it fails to load."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import machin_fast
from machin_fast import _extension

LIBRARY = Path(_extension.library.__file__ or "")
NM = shutil.which("nm")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter, away from the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip


def libtorch_symbols(library: Path) -> list[str]:
    """C++ names of torch that a library asks for. The stable ABI is C functions alone."""
    assert NM is not None
    command = [NM, "-D", "--undefined-only", "--format=posix", str(library)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    name = re.compile(r"_Z\w*?(2at|3c10|5torch|6caffe2)(?=\d)")
    return [symbol for line in listing.splitlines() if name.match(symbol := line.split()[0])]


def test_the_library_is_on_torchs_stable_abi() -> None:
    audit = shutil.which("torch-abi-audit", path=Path(sys.executable).parent)
    assert audit is not None, "pip install torch-abi-audit"
    command = [audit, str(LIBRARY), "--json", "--check", "both"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (extension,) = json.loads(result.stdout)["extensions"]
    assert extension["torch"]["uses_torch"] and extension["torch"]["stable"]
    needed = tuple(map(int, extension["torch"]["min_torch_version"].split(".")))
    assert needed <= (2, 10, 0)


@pytest.mark.skipif(NM is None, reason="no nm on the PATH")
def test_the_library_asks_libtorch_for_c_functions_alone() -> None:
    assert libtorch_symbols(LIBRARY) == []
    # torch's own bindings are not so restrained, which shows that this would be noticed.
    assert libtorch_symbols(Path(torch.__file__).parent / "lib" / "libtorch_python.so")


def test_build_info_tells_what_is_in_use() -> None:
    info = machin_fast.build_info()
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", info.version)
    assert info.torch_in_use == torch.__version__
    assert info.torch_built_with.startswith("2.")
    assert info.torch_least == "2.10"
    assert info.cpu_instruction_set in ("baseline", "avx2", "avx512")
    assert info.cpu_threads == torch.get_num_threads()
    assert info.cuda is None or torch.version.cuda is not None
    assert "MF_CUDA" in info.cuda_reason
    lines = str(info).splitlines()
    assert f"torch_in_use: {torch.__version__}" in lines and len(lines) == 8


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_the_environment_may_ask_for_a_lesser_instruction_set(isa: str) -> None:
    if isa == "avx2" and machin_fast.build_info().cpu_instruction_set == "baseline":
        pytest.skip("this processor has no AVX2")
    code = "import machin_fast; print(machin_fast.build_info().cpu_instruction_set)"
    assert python(code, MACHIN_FAST_ISA=isa).stdout == f"{isa}\n"


def test_a_broken_library_says_why_and_what_to_do(tmp_path: Path) -> None:
    broken = tmp_path / "_ops.abi3.so"
    broken.write_text("this is no library" * 100)
    for path, reason in ((broken, "invalid ELF header"), (tmp_path / "gone.so", "cannot open")):
        result = python("import machin_fast.ops", MACHIN_FAST_LIBRARY=str(path))
        assert result.returncode == 1
        error = result.stderr.splitlines()[-1]
        assert error.startswith(f"ImportError: machin_fast: the compiled library {path} did not ")
        assert f"torch {torch.__version__}" in error
        assert reason in error
        assert "Rebuild it with `pip install" in error


def test_a_missing_library_says_so() -> None:
    code = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name.startswith("machin_fast._ops") else find_spec(name, *rest)
)
import machin_fast.ops
"""
    error = python(code, MACHIN_FAST_LIBRARY="").stderr.splitlines()[-1]
    assert error.startswith("ImportError: machin_fast: the compiled library _ops must be in the ")
    assert "Rebuild it with `pip install" in error


def test_import_machin_fast_does_not_import_torch() -> None:
    code = "import sys, machin_fast; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_the_lower_floors_need_torch_and_numpy_alone() -> None:
    code = """
import importlib, sys
for name in ("gymnasium", "rich", "tyro", "safetensors"):
    sys.modules[name] = None  # importing it raises ImportError
import machin_fast
for name in ("ops", "functional", "data"):
    assert getattr(machin_fast, name).__name__ == f"machin_fast.{name}"
"""
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'machin_fast' has no attribute 'nonsense'"):
        machin_fast.nonsense  # noqa: B018

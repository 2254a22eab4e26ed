"""The house rules of this repository, each shown on bad snippets to be able to fail.

Where a rule lists its exceptions, they stand here, in one place, with their reason.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
import torch

import machin_fast.functional
import machin_fast.ops

ROOT = Path(__file__).parents[1]


def files(*patterns: str) -> list[PurePosixPath]:
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(PurePosixPath(path.relative_to(ROOT)) for path in found)


def in_file(path: PurePosixPath) -> str:
    return str(path)


# -- floors of the C++ sources ---------------------------------------------------------------

STABLE = re.compile(r"torch/(csrc/stable|headeronly)/|torch/csrc/inductor/aoti_torch/c/")
PYTHON = re.compile(r"(Python\.h$|pybind11/)")
TORCH = re.compile(r"(torch|ATen|c10|caffe2)/")
CPP = ("csrc/**/*.h", "csrc/**/*.cpp", "csrc/**/*.cu")


def cpp_floor(path: PurePosixPath) -> int:
    if path.parts[1] == "bindings":
        return 2
    if path.parts[1] != "ops" or path.suffix == ".cu" or path.stem.endswith("_cpu"):
        return 0
    # An op's header is shared with nvcc and the C++ tests; the others serve the glue.
    shared = path.suffix == ".h" and (ROOT / path.with_suffix(".cu")).exists()
    return 0 if shared else 1


def include_faults(path: PurePosixPath, text: str) -> list[str]:
    floor = cpp_floor(path)
    faults = []
    for header in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.MULTILINE):
        if PYTHON.match(header) and floor != 2:
            faults.append(f"{header}: Python is known in csrc/bindings alone")
        if TORCH.match(header) and floor == 0:
            faults.append(f"{header}: floor 0 knows no torch")
        if TORCH.match(header) and not STABLE.match(header):
            faults.append(f"{header}: not of torch's stable ABI")
        if (ROOT / "csrc" / header).exists():
            above = cpp_floor(PurePosixPath("csrc", header)) > floor
            # The ops' own headers are floor 0, but core does not know the ops.
            core = path.parts[1] not in ("ops", "bindings")
            if above or (core and header.startswith(("ops/", "bindings/"))):
                faults.append(f"{header}: of a higher floor")
    return faults


@pytest.mark.parametrize("path", files(*CPP), ids=in_file)
def test_includes_keep_to_their_floor(path: PurePosixPath) -> None:
    assert include_faults(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "include", "fault"),
    [
        ("csrc/core/isa.h", "<torch/csrc/stable/tensor.h>", "floor 0 knows no torch"),
        ("csrc/ops/gae.h", "<torch/headeronly/macros/Macros.h>", "floor 0 knows no torch"),
        ("csrc/ops/gae.cu", "<torch/csrc/stable/tensor.h>", "floor 0 knows no torch"),
        ("csrc/ops/gae_cpu.cpp", '"ops/tensor.h"', "of a higher floor"),
        ("csrc/ops/gae.cpp", "<torch/extension.h>", "not of torch's stable ABI"),
        ("csrc/ops/gae.cpp", "<ATen/ATen.h>", "not of torch's stable ABI"),
        ("csrc/ops/gae.cpp", "<Python.h>", "Python is known in csrc/bindings alone"),
        ("csrc/ops/gae.cpp", "<pybind11/pybind11.h>", "Python is known in csrc/bindings alone"),
        ("csrc/core/isa.cpp", '"ops/gae.h"', "of a higher floor"),
        ("csrc/core/isa.cpp", '"ops/rollout.h"', "of a higher floor"),
        ("csrc/actor_pool/inbox.cpp", "<Python.h>", "Python is known in csrc/bindings alone"),
        ("csrc/actor_pool/inbox.h", "<torch/csrc/stable/tensor.h>", "floor 0 knows no torch"),
    ],
)
def test_a_wrong_include_is_found(path: str, include: str, fault: str) -> None:
    faults = include_faults(PurePosixPath(path), f"#pragma once\n#  include {include}\n")
    assert any(fault in each for each in faults)


def test_allowed_includes_pass() -> None:
    for path, include in (
        ("csrc/core/isa.h", "<cstdint>"),
        ("csrc/ops/gae.cpp", "<torch/csrc/stable/tensor.h>"),
        ("csrc/ops/gae.cu", '"core/recurrence_cuda.h"'),
        ("csrc/bindings/module.cpp", "<Python.h>"),
    ):
        assert include_faults(PurePosixPath(path), f"#include {include}\n") == []


# -- floors of the Python package ------------------------------------------------------------

FLOORS = {
    "_actor_pool": 3, "_extension": 3, "_same_module": 3, "ops": 3, "utils": 3,
    "functional": 4,
    "data": 5, "transition": 5, "buffers": 5, "policies": 5, "model": 5, "noise": 5,
    "env": 5, "collect": 5, "parallel": 5, "helpers": 5,
    "algorithms": 6, "training": 7, "auto": 8,
    # They show the whole house.
    "frame": 9, "__init__": 9, "__main__": 9,
}  # fmt: skip
# What ops, functional and data may import from outside: buffers alone need nothing more.
LEAN = ("machin_fast", "torch", "numpy")


def imports(path: PurePosixPath, text: str) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports, and whether that happens when it is imported itself."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                package = path.parts[: -child.level] if child.level else ()
                name = ".".join([*package, *filter(None, [child.module])])
                yield name, at_once
                yield from ((f"{name}.{alias.name}", at_once) for alias in child.names)
            else:
                typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                later = typing or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from walk(child, at_once and not later)

    yield from walk(ast.parse(text), True)


def python_floor(module: str) -> int | None:
    parts = module.split(".")
    return FLOORS.get(parts[1] if len(parts) > 1 else "__init__")


def import_faults(path: PurePosixPath, text: str) -> list[str]:
    here = ".".join(path.with_suffix("").parts)
    floor = python_floor(here)
    if floor is None:
        return [f"{here}: has no floor; give it one in FLOORS"]
    faults = set()
    for module, at_once in imports(path, text):
        top = module.split(".")[0]
        # Names such as machin_fast.build_info are no modules; their module is seen as well.
        there = python_floor(module) if top == "machin_fast" and "." in module else None
        if there is not None and there > floor:
            faults.add(f"{module}: of floor {there}, seen from floor {floor}")
        lean = path.parts[1] in ("_extension.py", "ops", "functional", "data", "utils")
        if lean and at_once and top not in LEAN and top not in STANDARD_LIBRARY:
            faults.add(f"{module}: {path.parts[1]} needs torch and numpy alone")
    return sorted(faults)


STANDARD_LIBRARY = sys.stdlib_module_names


@pytest.mark.parametrize("path", files("machin_fast/**/*.py"), ids=in_file)
def test_imports_keep_to_their_floor(path: PurePosixPath) -> None:
    assert import_faults(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "code", "fault"),
    [
        ("ops/gae.py", "from machin_fast.functional import td", "floor 4, seen from floor 3"),
        ("ops/gae.py", "import machin_fast.data.replay", "floor 5, seen from floor 3"),
        ("ops/gae.py", "from ..algorithms import ppo", "floor 6, seen from floor 3"),
        ("data/a.py", "def f():\n  from machin_fast import training", "floor 7, seen from floor 5"),
        ("ops/gae.py", "import gymnasium", "needs torch and numpy alone"),
        ("utils/a.py", "from machin_fast.buffers import Buffer", "floor 5, seen from floor 3"),
        ("novelty/a.py", "", "has no floor"),
    ],
)
def test_a_wrong_import_is_found(path: str, code: str, fault: str) -> None:
    (found,) = import_faults(PurePosixPath("machin_fast", path), code)[:1]
    assert fault in found


def test_allowed_imports_pass() -> None:
    for path, code in (
        ("ops/gae.py", "import torch, numpy.linalg, dataclasses\nfrom . import _registration"),
        ("data/a.py", "def f():\n  import gymnasium"),
        ("algorithms/ppo.py", "from machin_fast.data import Replay"),
        ("algorithms/ppo.py", "from machin_fast import build_info"),
    ):
        assert import_faults(PurePosixPath("machin_fast", path), code) == []


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of imports, if there is any."""
    done: set[str] = set()

    def follow(module: str, way: list[str]) -> list[str]:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := follow(other, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := follow(module, []))), [])


def test_modules_import_each_other_without_cycles() -> None:
    def name(path: PurePosixPath) -> str:
        return ".".join(path.with_suffix("").parts).removesuffix(".__init__")

    sources = {name(path): path for path in files("machin_fast/**/*.py")}
    graph = {
        module: {
            other
            for other, at_once in imports(path, (ROOT / path).read_text())
            # A package whose own module it imports is no circle: Python begins with the package.
            if at_once and other in sources and not f"{module}.".startswith(f"{other}.")
        }
        for module, path in sources.items()
    }
    assert cycle(graph) == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()}) == ["b", "c"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


# -- one stem, one thing ---------------------------------------------------------------------

PLACES = (
    "csrc/ops/{}.h", "csrc/ops/{}.cpp", "csrc/ops/{}.cu", "machin_fast/ops/{}.py",
    "cpp_tests/test_{}.cpp", "python_tests/ops/test_{}.py", "benchmarks/bench_{}.py",
)  # fmt: skip


def missing_files(stem: str, exists: Callable[[str], bool]) -> list[str]:
    return [place for each in PLACES if not exists(place := each.format(stem))]


def stems() -> list[str]:
    kernels = {path.stem for path in files("csrc/ops/*.cu")}
    return sorted(kernels | {path.stem for path in files("machin_fast/ops/[!_]*.py")})


@pytest.mark.parametrize("stem", stems())
def test_an_op_has_all_its_files(stem: str) -> None:
    assert missing_files(stem, lambda place: (ROOT / place).exists()) == []


def test_a_missing_file_is_found() -> None:
    assert "gae" in stems()
    assert missing_files("gae", lambda place: not place.endswith(".cu")) == ["csrc/ops/gae.cu"]


def unregistered(op: str) -> list[str]:
    keys = ("CPU", "CUDA", "Meta")
    return [k for k in keys if not torch._C._dispatch_has_kernel_for_dispatch_key(op, k)]


def registered_ops() -> list[str]:
    names: list[str] = torch._C._dispatch_get_all_op_names()
    return sorted(name for name in names if name.startswith("machin_fast::"))


@pytest.mark.parametrize("op", registered_ops())
def test_an_op_is_registered_for_cpu_cuda_and_tracing(op: str) -> None:
    assert unregistered(op) == []


def test_an_op_without_kernels_is_found() -> None:
    assert {"machin_fast::gae", "machin_fast::gae.out"} <= set(registered_ops())
    library = torch.library.Library("machin_fast_house", "DEF")
    library.define("half(Tensor x) -> Tensor")
    library.impl("half", lambda x: x / 2, "CPU")
    assert unregistered("machin_fast_house::half") == ["CUDA", "Meta"]


# -- what public functions document ----------------------------------------------------------


def sections(docstring: str) -> dict[str, str]:
    """The text of each section by its heading; that before the first heading under ""."""
    parts = re.split(r"^(Args|Returns|Raises|Source|Sources):", docstring, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def doc_faults(function: Callable[..., object]) -> list[str]:
    signature = inspect.signature(function)
    found = sections(inspect.getdoc(function) or "")
    faults = [] if found[""].split("\n")[0].strip().endswith(".") else ["no summary line"]
    wanted = {"Args": signature.parameters, "Raises": True, "Source": True}
    wanted["Returns"] = signature.return_annotation not in (None, "None")
    faults += [f"no {name}" for name, needed in wanted.items() if needed and name not in found]
    documented = re.findall(r"^    (\w+(?:, \w+)*):", found.get("Args", ""), re.MULTILINE)
    names = {name for group in documented for name in group.split(", ")}
    faults += [f"{name} is not documented" for name in signature.parameters if name not in names]
    faults += [f"{name} is no argument" for name in sorted(names - {*signature.parameters})]
    return faults


@pytest.mark.parametrize("name", machin_fast.ops.__all__)
def test_a_public_op_documents_itself(name: str) -> None:
    assert doc_faults(getattr(machin_fast.ops, name)) == []


@pytest.mark.parametrize("name", machin_fast.functional.__all__)
def test_a_public_formula_documents_itself(name: str) -> None:
    assert doc_faults(getattr(machin_fast.functional, name)) == []


def test_every_public_function_of_an_op_is_exported() -> None:
    public = {
        name
        for path in files("machin_fast/ops/[!_]*.py")
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.FunctionDef) and not (name := node.name).startswith("_")
    }
    assert public == set(machin_fast.ops.__all__)


def test_a_gap_in_a_docstring_is_found() -> None:
    def good(x: int, y: int) -> int:
        """Adds.

        Source: nature.

        Args:
            x, y: Numbers.

        Returns:
            Their sum.

        Raises:
            RuntimeError: Never.
        """
        return x + y

    def bad(x: int, y: int) -> int:
        """Adds

        Args:
            x: A number.
            z: Another.
        """
        return x + y

    assert doc_faults(good) == []
    assert doc_faults(bad) == [
        "no summary line", "no Raises", "no Source", "no Returns",
        "y is not documented", "z is no argument",
    ]  # fmt: skip


# -- error texts -----------------------------------------------------------------------------

# <op>: <argument> must <rule>, got <value>; what is not literal is shown as {}.
ERROR_FORM = re.compile(r"([\w.]+|\{\}): \S.* must \S.*, got ")
# Failures of the machine, for which no argument is to blame, and rules that no value breaks.
OTHER_FORMS = re.compile(
    r"machin_fast: out of memory|\{\}: the CUDA kernel did not launch"
    r"|\{\}: \S+ must not share memory with|\{\}: must be given \{\} arguments, got"
)


def error_texts(text: str) -> Iterator[str]:
    """The texts that MF_CHECK, MF_REQUIRE, fail and refuse are called with."""
    text = re.sub(r"//.*", "", text)
    for call in re.finditer(r"\b(MF_CHECK|MF_REQUIRE|fail|refuse)\(", text):
        arguments = split_arguments(text, call.end())
        parts = arguments[1:] if call[1].startswith("MF_") else arguments
        if not any('"' in part for part in parts):
            continue  # a definition
        yield "".join(
            "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', part)) if part.startswith('"') else "{}"
            for part in parts
        )


def split_arguments(text: str, begin: int) -> list[str]:
    """The arguments of the call whose parenthesis opens just before ``begin``."""
    arguments, depth, start, quoted, i = [], 0, begin, False, begin
    while depth >= 0:
        if text[i] == "\\":
            i += 2
            continue
        if text[i] == '"':
            quoted = not quoted
        if not quoted:
            depth += (text[i] in "([{") - (text[i] in ")]}")
            if depth < 0 or (depth == 0 and text[i] == ","):
                arguments.append(text[start:i].strip())
                start = i + 1
        i += 1
    return arguments


def text_faults(text: str) -> list[str]:
    good = (ERROR_FORM, OTHER_FORMS)
    return [each for each in error_texts(text) if not any(form.match(each) for form in good)]


@pytest.mark.parametrize("path", files(*CPP), ids=in_file)
def test_error_texts_follow_the_form(path: PurePosixPath) -> None:
    assert text_faults((ROOT / path).read_text()) == []


def test_a_wrong_error_text_is_found() -> None:
    good = r"""
        MF_CHECK(f(a, "x"), op, ": ", name, " must be (1, 2), \"got\"", a, ", got ", g(b, ", "));
        fail("gae: value must not be empty, "
             "got none");
        void fail(const Parts&... parts);
    """
    assert list(error_texts(good)) == [
        r"{}: {} must be (1, 2), \"got\"{}, got {}", "gae: value must not be empty, got none",
    ]  # fmt: skip
    assert text_faults(good) == []
    for bad in (
        'MF_CHECK(a == b, "sizes differ");',
        'fail("gae: value is wrong, got ", x);',
        'fail("gae: value must be right");',
        'MF_CHECK(ok, "value must be right, got ", x);',
        'MF_REQUIRE(ok, "Inbox.done: env is wrong");',
        'refuse("ids must be right, got ", x);',
    ):
        assert len(text_faults(bad)) == 1


def test_error_texts_are_found_at_all() -> None:
    count = sum(len(list(error_texts((ROOT / path).read_text()))) for path in files(*CPP))
    assert count > 30


# -- nothing of the workshop -----------------------------------------------------------------

# Folders of the machine this was written on, and where packages come from.
PRIVATE = re.compile(
    r"(?<![\w.])/(work|root|opt/pypi|opt/wheels)\b"
    r"|\b(extra-)?index-url\b|\bfind-links\b"
    r"|\bfiles\.pythonhosted\b|\bpypi\.org/simple\b"
    r"|://[\w.-]*(mirror|artifactory|nexus|registry|proxy)[\w.-]*"
)


def private_faults(text: str) -> list[str]:
    return [match[0] for match in PRIVATE.finditer(text)]


def tracked_files() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_tracked_files_name_no_private_place() -> None:
    here = str(Path(__file__).relative_to(ROOT))
    faults = {
        name: found
        for name in tracked_files()
        if name != here and (found := private_faults((ROOT / name).read_text(errors="replace")))
    }
    assert faults == {}


def test_a_private_place_is_found() -> None:
    for bad in (
        "cd /" + "work/main",
        "/" + "root/.cache",
        "--extra-index-url",
        "https://a-mirror.b/simple",
    ):
        assert private_faults(bad)
    for good in ("csrc/work/a.h", "./root", "https://pytorch.org", "groundwork/a", "a.b/work"):
        assert private_faults(good) == []

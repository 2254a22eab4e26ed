"""``machin_fast.use_as``: programs for Machin run as they are."""

import subprocess
import sys

import pytest

import machin_fast


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "imports",
    [
        "from machin.frame.algorithms import DQN as A; from machin_fast.algorithms import DQN as B",
        "from machin.frame.buffers.buffer import Buffer as A;"
        "from machin_fast.buffers import Buffer as B",
        "import machin; A = machin.frame.noise.generator; import machin_fast.noise.generator as B",
        "from machin.utils.helper_classes import Counter as A;"
        "from machin_fast.utils.helper_classes import Counter as B",
        "import machin.model.nets.base as A; import machin_fast.model.nets.base as B",
        "from machin.env.wrappers.openai_gym import ParallelWrapperSubProc as A;"
        "from machin_fast.env.wrappers.openai_gym import ParallelWrapperSubProc as B",
        "import machin as A, machin_fast as B",
        "import machin_fast.frame.algorithms.dqn as A; import machin.frame.algorithms.dqn as B",
    ],
)
def test_modules_are_the_same_objects(imports):
    done = run(f"import machin_fast; machin_fast.use_as('machin'); {imports}; assert A is B")
    assert done.returncode == 0, done.stderr


def test_it_may_be_called_again():
    done = run("import machin_fast as m; m.use_as('machin'); import machin; m.use_as('machin')")
    assert done.returncode == 0, done.stderr


def test_it_comes_before_the_first_import():
    done = run("import json, machin_fast; machin_fast.use_as('json')")
    assert "use_as: name must not have been imported yet, got json" in done.stderr


def test_modules_that_are_missing_are_named_as_they_were_asked_for():
    done = run("import machin_fast as m; m.use_as('machin'); import machin.nothing")
    assert "ModuleNotFoundError: No module named 'machin_fast.nothing'" in done.stderr


@pytest.mark.parametrize("name", ["machin.frame", "", "machin_fast", "a b"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"use_as: name must be one of a package at the top"):
        machin_fast.use_as(name)


def test_packages_load_when_they_are_asked_for():
    done = run("import sys, machin_fast; assert 'torch' not in sys.modules; machin_fast.utils")
    assert done.returncode == 0, done.stderr
    assert machin_fast.__version__

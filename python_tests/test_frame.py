"""Machin's import paths, each in a fresh interpreter where the order of imports matters."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from unittest import mock

import pytest

import machin_fast.frame
from machin_fast.buffers import Buffer, PrioritizedBuffer, WeightTree


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "from machin_fast.frame.buffers import Buffer as A; "
        "from machin_fast.buffers import Buffer as B",
        "from machin_fast.buffers import Buffer as B; "
        "from machin_fast.frame.buffers import Buffer as A",
        "from machin_fast.frame.buffers.prioritized_buffer import WeightTree as A; "
        "from machin_fast.buffers.weight_tree import WeightTree as B",
        "import machin_fast.frame.buffers.storage as a; import machin_fast.buffers.storage as b; "
        "A, B = a.TransitionStorageBasic, b.TransitionStorageBasic",
        "import machin_fast.frame; A = machin_fast.frame.transition.Transition; "
        "from machin_fast.transition import Transition as B",
    ],
)
def test_classes_are_the_same_under_both_paths(code):
    assert run(f"{code}; print(A is B)") == "True"


def test_modules_keep_their_own_spec():
    module = importlib.import_module("machin_fast.frame.buffers.rnn_buffers")
    assert module is importlib.import_module("machin_fast.buffers.rnn_buffers")
    assert module.__name__ == module.__spec__.name == "machin_fast.buffers.rnn_buffers"


def test_pickles_by_the_old_path_load():
    data = pickle.dumps(Buffer, protocol=0)
    assert b"machin_fast.buffers.buffer" in data
    old = data.replace(b"machin_fast.buffers.buffer", b"machin_fast.frame.buffers.buffer")
    assert pickle.loads(old) is Buffer


def test_patches_by_the_old_path_reach_the_class():
    with mock.patch("machin_fast.frame.buffers.buffer.Buffer.size", return_value=7):
        assert PrioritizedBuffer(3).size() == 7
    assert PrioritizedBuffer(3).size() == 0


def test_what_machin_has_not_is_not_there():
    with pytest.raises(AttributeError, match="policies"):
        _ = machin_fast.frame.policies
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("machin_fast.frame.ops")
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        importlib.import_module("machin_fast.frame.buffers.nothing")


def test_packages_load_when_they_are_asked_for():
    code = "import sys, machin_fast.frame; print('machin_fast.buffers' in sys.modules)"
    assert run(code) == "False"
    assert WeightTree.__module__ == "machin_fast.buffers.weight_tree"

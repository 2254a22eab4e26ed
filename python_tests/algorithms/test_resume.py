"""What is saved, killed and gone on with learns as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from machin_fast import algorithms

PROGRAM = Path(__file__).parent / "resuming.py"


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("resume")
    for what in ("learn", "resume"):
        done = subprocess.run(
            [sys.executable, PROGRAM, what, folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    return {what: json.loads((folder / what).read_text()) for what in ("learn", "resume")}


@pytest.mark.parametrize("name", sorted(set(algorithms.__all__) - {"TorchFramework"}))
def test_a_killed_process_is_gone_on_with(name: str, losses: dict[str, dict[str, Any]]) -> None:
    assert losses["learn"][name] == losses["resume"][name]
    assert len(losses["learn"][name]) == 3

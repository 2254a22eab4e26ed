"""2 N steps are N steps, a kill and N more in another process, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from machin_fast import algorithms

PROGRAM = Path(__file__).parent / "resumed.py"


@pytest.mark.timeout(300)
def test_killed_runs_go_on_as_if_they_had_not_been(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    runs = {path.parent.name: path.parent for path in tmp_path.glob("*/whole.json")}
    # A new algorithm is added to those of resumed.py.
    every = {*algorithms.__all__} - {"TorchFramework"}
    assert {*runs} == every | {"recurrent PPO"}
    for name, folder in runs.items():
        whole = json.loads((folder / "whole.json").read_text())
        resumed = json.loads((folder / "resumed.json").read_text())
        assert whole["progress"]["steps"] >= 600 and whole["progress"]["updates"] > 4, name
        assert sum(line["event"] == "checkpoint" for line in whole["told"]) == 2, name
        for what in ("progress", "algorithm", "told", "reason"):
            assert resumed[what] == whole[what], (name, what)

"""However a process dies while it writes a checkpoint, there is a whole one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "killed.py"


@pytest.mark.timeout(300)
def test_after_each_kill_there_is_a_whole_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    anywhere, at_each_touch = found["anywhere"], found["at_each_touch"]
    assert len(anywhere) == 50 and len(at_each_touch) > 20
    for kill in (*anywhere, *at_each_touch):
        assert kill["whole"]
        assert kill["step"] >= kill["told"]  # what was told of is not lost
        assert not kill["passed_over"]  # nothing is half written under its own name
    # They met writing, not the time between.
    assert sum(kill["left"] > 0 for kill in anywhere) > 10
    steps = [kill["step"] for kill in at_each_touch]
    assert steps == sorted(steps) and {*steps} == {100, 101}
    assert at_each_touch[-1]["told"] == 101  # at last nobody died any more

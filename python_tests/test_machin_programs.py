"""Programs as users of Machin wrote them run as they are, and with their imports renamed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "machin_programs").glob("[!_]*.py"))
# How far programs go. They read these; the numbers that Machin's users had are their defaults.
SHORT = {"EPISODES": "2", "WARM_UP": "1", "STEPS": "20"}


def run(how: str, results: Path, *names: str, **settings: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "machin_programs", how, str(results), *names],
        cwd=HERE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return {line["name"]: line for line in lines}


@pytest.fixture(scope="module", params=["as_machin", "renamed"])
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    return run(request.param, tmp_path_factory.mktemp("programs") / "results", *NAMES, **SHORT)


@pytest.mark.timeout(300)  # the first one waits for all
@pytest.mark.parametrize("name", NAMES)
def test_a_program_runs(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results[name]
    assert not result["fault"], result["fault"]
    assert result["steps"] > 0
    assert result["losses"] > 0 and result["finite"]


# A smoothed reward above the goal of Machin's own tests, five episodes in a row, within 1000
# episodes: 150 on CartPole, -400 on Pendulum.
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "warm_up"), [("dqn", "100"), ("ppo", "0"), ("sac", "5")])
def test_a_program_reaches_the_goal(name: str, warm_up: str, tmp_path: Path) -> None:
    found = run("as_machin", tmp_path / "results", name, EPISODES="1000", WARM_UP=warm_up, SEED="0")
    result = found[name]
    assert not result["fault"], result["fault"]
    assert result["last"] == "Environment solved!"

"""The main job, end to end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from machin_fast.auto.cli import main
from machin_fast.auto.demo.command import one_thread
from machin_fast.auto.demo.training import Settings, Training
from machin_fast.training.profiling.profile import profile

PNG = b"\x89PNG\r\n\x1a\n"
SHORT = Settings(learning_starts=200, evaluation_interval=300)


def turns(training: Training, n: int) -> Training:
    with one_thread():
        for _ in range(n):
            training.turn()
    return training


def test_every_stage_runs(device):
    training = Training(device=device, seed=0, settings=SHORT)
    with profile() as profiled:
        turns(training, 4)
    assert training.history.steps == profiled.steps == 4 * 16 * 8
    assert training.history.updates == profiled.updates == 3 * 32
    assert [step for step, _ in training.history.evaluations] == [384]
    assert len(training.history.episodes) > 10
    stages = {name: stage for name, stage in profiled.stages.items() if name != "other"}
    assert set(stages) == {
        "act", "env", "store", "sample", "learn", "priorities", "evaluate",
    }  # fmt: skip
    assert stages["sample"].calls == stages["priorities"].calls == 3 * 32


def test_a_seed_decides_the_whole_run():
    def run(seed):
        return turns(Training(device=torch.device("cpu"), seed=seed, settings=SHORT), 12).history

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_budget_too_small_is_told_and_gives_exit_code_1(tmp_path, capsys):
    threads = torch.get_num_threads()
    picture = tmp_path / "new" / "curve.png"
    assert main(["demo", "--steps", "1000", "--output", str(picture)]) == 1
    shown = capsys.readouterr().out
    assert "Not solved after 1,024 steps" in shown
    assert f"Learning curve: {picture}\n" in shown
    assert picture.read_bytes().startswith(PNG)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_solves_cartpole_within_100000_steps(tmp_path):
    program = Path(sys.executable).with_name("machin-fast")
    done = subprocess.run(
        [program, "demo", "--seed", "1", "--steps", "100000"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (mean,) = re.findall(r"Solved: 20 greedy episodes average (\d+\.\d)", done.stdout)
    assert float(mean) >= 475
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(PNG)
    for stage in ("env", "act", "store", "sample", "learn", "priorities", "evaluate"):
        assert re.search(rf"^ *{stage} +█* +\d+\.\d% +\d+\.\d\d ", done.stdout, re.MULTILINE), stage

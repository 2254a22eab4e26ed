"""What the documentation shows runs."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from machin_fast import algorithms
from machin_fast.auto.cli import _command as command
from machin_fast.auto.cli import main

DOCS = Path(__file__).parents[1] / "docs"


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def run_small(blocks: list[str], page: str, namespace: dict[str, Any]) -> None:
    """Runs blocks one after the other, with one thread: their networks are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_page_on_fast_buffers_runs_and_its_agent_learns():
    namespace: dict[str, Any] = {}
    blocks = programs("fast_buffers.md")
    assert len(blocks) == 3
    run_small(blocks, "fast_buffers.md", namespace)
    ended = namespace["lengths"][-11:-1]
    assert sum(ended) / len(ended) > 100  # 20 without learning


def test_the_page_on_the_actor_pool_runs():
    namespace: dict[str, Any] = {}
    blocks = programs("actor_pool.md")
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "actor_pool.md", "exec"), namespace)


def test_the_page_on_native_environments_runs(capsys):
    namespace: dict[str, Any] = {}
    blocks = programs("native_envs.md")
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "native_envs.md", "exec"), namespace)
    assert "actions of CartPole-v1 must be in [0, 2), got 7" in capsys.readouterr().out


def test_the_page_on_collecting_runs():
    blocks = programs("collecting.md")
    assert len(blocks) == 9
    run_small(blocks, "collecting.md", {})


@pytest.mark.parametrize("page", ["training.md", "resuming.md"])
def test_the_pages_on_training_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_small(programs(page), page, {})
    assert list(tmp_path.glob("runs/*/checkpoints/*/manifest.json"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["command_line.md", "profiling.md"])
def test_the_pages_on_commands_run(page, tmp_path, monkeypatch):
    """Each line of the shell and of Python; without what is not installed or takes a minute."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    commands = re.findall(r"^machin-fast (.+)$", (DOCS / page).read_text(), re.MULTILINE)
    assert commands
    for line in commands:
        words = shlex.split(line)
        if words[-2:] == ["--env", "CartPole-v1"] and words[0] == "train":
            words += ["--steps", "1024", "--goal", "none", "--evaluation-every", "512"]
        if words[0] == "enjoy" and importlib.util.find_spec("moviepy") is None:
            continue
        if words[-1] == "ppo.json" and words[0] == "generate":
            assert main(words) == 0
            config = json.loads(Path("ppo.json").read_text())
            config["training"].update(steps=1024, goal=None)
            Path("ppo.json").write_text(json.dumps(config))
            continue
        assert main(words) == 0, line
    for block in programs(page):
        exec(compile(block, page, "exec"), {})
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "page", ["index.md", "from_machina.md", "architecture.md", "add_a_kernel.md"]
)
def test_a_page_runs(page, capsys):
    blocks = programs(page)
    assert blocks
    run_small(blocks, page, {})
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_the_algorithm_of_the_page_on_adding_one_learns():
    namespace: dict[str, Any] = {}
    run_small(programs("add_an_algorithm.md"), "add_an_algorithm.md", namespace)
    _, score = namespace["outcome"].progress.best
    assert score > 100  # 20 without learning


def test_the_commands_of_the_first_page_are_commands():
    lines = re.findall(r"^machin-fast (.+)$", (DOCS / "index.md").read_text(), re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        assert command(shlex.split(line))


def test_every_page_with_programs_is_run():
    here = Path(__file__).read_text()
    pages = [path.name for path in DOCS.glob("*.md") if programs(path.name)]
    assert [page for page in pages if f'"{page}"' not in here] == []


@pytest.mark.parametrize("page", sorted(path.stem for path in (DOCS / "algorithms").glob("*.md")))
def test_the_page_of_an_algorithm_runs(page):
    blocks = programs(f"algorithms/{page}.md")
    assert blocks
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), {})


def test_each_algorithm_has_a_page():
    abstract = {"TorchFramework"}
    titles = {
        path.read_text().partition("\n")[0].removeprefix("# ")
        for path in (DOCS / "algorithms").glob("*.md")
    }
    assert titles == set(algorithms.__all__) - abstract

"""What the documentation shows runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from machin_fast import algorithms

DOCS = Path(__file__).parents[1] / "docs"


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_on_fast_buffers_runs_and_its_agent_learns():
    namespace: dict[str, Any] = {}
    blocks = programs("fast_buffers.md")
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "fast_buffers.md", "exec"), namespace)
    ended = namespace["lengths"][-11:-1]
    assert sum(ended) / len(ended) > 100  # 20 without learning


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

"""What the documentation shows runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

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

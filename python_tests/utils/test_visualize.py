"""Pictures of graphs."""

from __future__ import annotations

import re
import shutil
from unittest import mock

import pytest
import torch

from machin_fast.utils.visualize import visualize_graph

# What stands in for Graphviz, which need not be installed.
DOT = """#!/bin/sh
test "$1 $2 $3" = "-Tpdf -O Digraph.gv" && cp "$3" "$3.pdf"
"""
FAILS = """#!/bin/sh
echo "Error: no fonts" >&2
exit 1
"""


@pytest.fixture
def dot(tmp_path, monkeypatch):
    """Puts a program named ``dot`` first, or none at all."""

    def install(script: str | None = DOT) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        if script is not None:
            (folder / "dot").write_text(script)
            (folder / "dot").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder) + (":/usr/bin:/bin" if script else ""))

    return install


def end() -> torch.Tensor:
    model = torch.nn.Linear(2, 1, bias=False)
    y = model(torch.ones(3, 2))
    return (y + y.relu()).sum()


def read(source: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Labels, and edges between them, of what is drawn."""
    label = dict(re.findall(r'^(\d+) \[label="([^"]*)", fillcolor=\w+\]$', source, re.MULTILINE))
    edges = re.findall(r"^(\d+) -> (\d+)$", source, re.MULTILINE)
    return sorted(label.values()), sorted((label[a], label[b]) for a, b in edges)


def test_the_graph_is_drawn_from_leaves_to_the_end(dot, tmp_path):
    dot()
    visualize_graph(end(), visualize_dir=tmp_path / "a" / "b", exit_after_vis=False)
    files = sorted((tmp_path / "a" / "b").iterdir())
    assert [file.name for file in files] == ["Digraph.gv", "Digraph.gv.pdf"]
    labels, edges = read(files[0].read_text())
    product = "MmBackward0"
    assert labels == sorted(
        ["[1, 2]", "TBackward0", product, "ReluBackward0", "AddBackward0", "SumBackward0", "[]"]
    )
    assert edges == sorted(
        [
            ("[1, 2]", "TBackward0"), ("TBackward0", product), (product, "ReluBackward0"),
            (product, "AddBackward0"), ("ReluBackward0", "AddBackward0"),
            ("AddBackward0", "SumBackward0"), ("SumBackward0", "[]"),
        ]
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_it(tmp_path):
    visualize_graph(end(), visualize_dir=str(tmp_path), exit_after_vis=False)
    assert (tmp_path / "Digraph.gv.pdf").read_bytes().startswith(b"%PDF")


def test_a_tensor_without_a_graph_is_drawn_alone(dot, tmp_path):
    dot()
    visualize_graph(torch.ones(2, 3), tmp_path, exit_after_vis=False)
    assert read((tmp_path / "Digraph.gv").read_text()) == (["[2, 3]"], [])


def test_files_are_here_by_default(dot, tmp_path, monkeypatch):
    dot()
    monkeypatch.chdir(tmp_path)
    visualize_graph(end(), exit_after_vis=False)
    assert (tmp_path / "Digraph.gv.pdf").exists()


def test_the_program_ends_once_the_picture_is_there(dot, tmp_path):
    dot()
    with mock.patch("machin_fast.utils.visualize.exit") as leave:
        visualize_graph(end(), visualize_dir=tmp_path, exit_after_vis=True)
        leave.assert_called_once_with(0)
        visualize_graph(end(), visualize_dir=tmp_path, exit_after_vis=False)
        leave.assert_called_once()
    with pytest.raises(SystemExit) as caught:
        visualize_graph(end(), visualize_dir=tmp_path)
    assert caught.value.code == 0
    assert (tmp_path / "Digraph.gv.pdf").exists()


def test_without_graphviz_the_graph_is_written_and_the_program_goes_on(dot, tmp_path):
    dot(None)
    with pytest.raises(RuntimeError, match=r"dot must be installed, got none\. Install Graphviz"):
        visualize_graph(end(), visualize_dir=tmp_path)
    assert read((tmp_path / "Digraph.gv").read_text())[0]


def test_what_graphviz_says_is_told(dot, tmp_path):
    dot(FAILS)
    with pytest.raises(RuntimeError, match=r"dot must draw .*Digraph\.gv, got Error: no fonts"):
        visualize_graph(end(), visualize_dir=tmp_path)

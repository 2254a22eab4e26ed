"""The documentation site: it builds without a warning, and shows all that is public."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="pip install 'machin_fast[docs]' to build the site")
pytest.importorskip("mkdocstrings", reason="pip install 'machin_fast[docs]' to build the site")

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "algorithms", "buffers", "collect", "data", "data.transforms", "env", "functional", "model",
    "model.nets", "ops", "policies", "training",
)  # fmt: skip


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config]
    return subprocess.run(
        [*command, "--site-dir", site],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip


def without_entry(package: str, entries: set[str]) -> list[str]:
    """Classes and functions that a package exports, and that no page tells of."""
    missing = []
    for name in (module := importlib.import_module(package)).__all__:
        found = getattr(module, name)
        if inspect.isclass(found) or inspect.isroutine(found):
            # By the name that is exported, or where it is defined.
            names = {f"{package}.{name}", f"{found.__module__}.{found.__qualname__}"}
            missing += [] if names & entries else [f"{package}.{name}"]
    return missing


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_shows_all_that_is_public(tmp_path: Path) -> None:
    built = build(ROOT / "mkdocs.yml", tmp_path)
    assert built.returncode == 0, built.stderr
    pages = {path: path.read_text() for path in tmp_path.rglob("*.html")}

    entries = set(re.findall(r'id="(machin_fast[\w.]*)"', "".join(pages.values())))
    packages = [f"machin_fast.{name}" for name in PACKAGES]
    assert [each for package in packages for each in without_entry(package, entries)] == []
    # Where a function is called like its module, a page must name the module.
    assert without_entry("machin_fast.ops", entries - {"machin_fast.ops.gae.gae"}) == [
        "machin_fast.ops.gae"
    ]

    fetched = r'<(?:script|img|link)[^>]+(?:src|href)="?(?:https?:)?//[^>]+>|@import[^;]+//[^;]+;'
    styles = {path: path.read_text() for path in tmp_path.rglob("*.css")}
    for path, text in {**pages, **styles}.items():
        assert re.findall(fetched, text) == [], path


def test_a_broken_link_and_a_page_that_nobody_finds_fail(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("[There](nowhere.md), [here](#not-here)\n")
    (docs / "lost.md").write_text("# Lost\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nplugins: []\nnav: [index.md]\n"
        "extra_css: []\n"
    )
    built = build(config, tmp_path / "site")
    assert built.returncode == 1
    for fault in ("nowhere.md", "#not-here", "lost.md"):
        assert fault in built.stderr

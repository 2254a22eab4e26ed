"""The command line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch

from machin_fast.auto.cli import Info, main


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from machin_fast.auto.cli import main\n"
        "try: main(['demo', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'gymnasium', 'matplotlib'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--device {cpu,cuda}" in done.stdout
    assert done.stdout.endswith("heavy: []\n")


@pytest.mark.parametrize("program", [["-m", "machin_fast"], ["-c", "from machin_fast.auto.cli "
                                     "import main; raise SystemExit(main())"]])  # fmt: skip
def test_the_commands_are_listed(program):
    done = subprocess.run(
        [sys.executable, *program, "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: machin-fast" in done.stdout
    assert "demo" in done.stdout and "info" in done.stdout


def test_info_shows_the_build(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert f"torch_in_use: {torch.__version__}\n" in shown
    assert "\ncuda_reason: " in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--device", "tpu"], "invalid choice 'tpu'"),
        (["demo", "--stps", "3"], "--steps"),
        (["demmo"], "demo"),
    ],
)
def test_a_slip_of_the_pen_is_explained(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_extra_gives_the_line_that_installs_it(monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == (
        "machin-fast: machin-fast demo needs matplotlib, which is not installed. "
        "Install it with: pip install 'machin_fast[demo]'\n"
    )


def test_a_device_that_is_not_there_is_explained(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["demo", "--device", "cuda"]) == 2
    message = "machin-fast: demo: --device must be one that torch can use, got cuda"
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--output", "a.txt"], "--output must end in .png, .svg or .pdf, got a.txt"),
        (["--output", "/dev/null/a.png"], "--output must be a file to write, got "),
    ],
)
def test_what_would_fail_later_is_refused_at_once(words, message, capsys):
    assert main(["demo", *words]) == 2
    assert capsys.readouterr().err.startswith(f"machin-fast: demo: {message}")


def test_stopping_by_hand_is_no_error(monkeypatch):
    def interrupted(self: Info) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Info, "run", interrupted)
    assert main(["info"]) == 130

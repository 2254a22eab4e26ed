"""The command line: what it knows, and what it says to slips."""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys

import pytest
import torch

from machin_fast.auto.cli import COMMANDS, Info, main

CLI = [sys.executable, "-m", "machin_fast"]


@pytest.mark.parametrize("command", [[], ["train"], ["profile"], ["launch"], ["demo"]])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys\n"
        "from machin_fast.auto.cli import main\n"
        f"try: assert main([*{command}, '--help']) == 0\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'gymnasium', 'matplotlib'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: machin-fast {command[0] if command else 'COMMAND'}")
    assert done.stdout.endswith("heavy: []\n")


@pytest.mark.alone
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_answers_within_300_ms(words):
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*CLI, *words], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Of CPU time, which a busy machine stretches less than time.
    assert min(cpu_seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "machin_fast"],
        ["-m", "machin_fast.auto"],
        ["-c", "from machin_fast.auto.cli import main; raise SystemExit(main())"],
    ],
)
def test_the_commands_are_listed(program):
    done = subprocess.run(
        [sys.executable, *program, "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: machin-fast" in done.stdout
    listed = [line.split()[0] for line in done.stdout.split("commands:\n")[1].splitlines()[:11]]
    assert listed == list(COMMANDS)


def test_without_a_command_the_commands_are_shown(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_info_shows_the_build_and_the_machine(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert f"torch_in_use: {torch.__version__}\n" in shown
    assert "\ncuda_reason: " in shown
    assert "\ncpu: " in shown
    assert "\ncuda:0: " in shown or "\ngpu: none that torch can use\n" in shown


def test_list_names_algorithms_and_environments(capsys):
    assert main(["list"]) == 0
    both = capsys.readouterr().out
    assert "dqn_per" in both and "CartPole-v1" in both and "openai_gym" in both
    assert main(["list", "--algo"]) == 0
    assert "CartPole-v1" not in capsys.readouterr().out
    assert main(["list", "--env"]) == 0
    assert "dqn_per" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--device", "tpu"], "invalid choice 'tpu'"),
        (["demo", "--stps", "3"], "--steps"),
        (["train", "--stps", "3"], "--steps"),
        (["train", "--steps", "many"], "many"),
        (["launch"], "--config"),
    ],
)
def test_a_slip_of_the_pen_is_explained(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_command_is_told_its_nearest(capsys):
    assert main(["trian"]) == 2
    message = "machin-fast: unknown command 'trian'. Did you mean 'train'? See machin-fast --help\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("matplotlib", ["demo"], "demo"),
        (
            "matplotlib",
            ["profile", "--algo", "ppo", "--env", "CartPole-v1", "--output", "x"],
            "demo",
        ),
        ("optuna", ["tune", "--algo", "ppo", "--env", "CartPole-v1"], "tune"),
        (
            "wandb",
            ["train", "--algo", "ppo", "--env", "CartPole-v1", "--wandb", "project"],
            "wandb",
        ),
    ],
)
def test_a_missing_extra_gives_the_line_that_installs_it(
    package, words, extra, monkeypatch, capsys
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert f"needs {package}, which is not installed. Install it with: " in shown
    assert f"pip install 'machin_fast[{extra}]'\n" in shown


@pytest.mark.parametrize("words", [["demo"], ["train", "--algo", "ppo", "--env", "CartPole-v1"]])
def test_a_device_that_is_not_there_is_explained(words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*words, "--device", "cuda"]) == 2
    assert "--device must be one that torch can use, got cuda" in capsys.readouterr().err


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

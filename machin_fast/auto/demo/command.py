"""``machin-fast demo``: what it shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from machin_fast import build_info
from machin_fast.auto.demo.training import ENVIRONMENT, GOAL, History, Training
from machin_fast.auto.errors import CommandError
from machin_fast.training.curve import draw_learning_curve
from machin_fast.training.profiling.profile import profile
from machin_fast.utils.extras import need


def run(*, device: str, seed: int, steps: int, output: Path) -> int:
    """Trains until the goal is reached or the steps are spent, and shows how it went.

    Args:
        device: "cpu" or "cuda".
        seed: Of everything random, at least 0.
        steps: Environment steps to give up after, at least 1.
        output: Picture to write: .png, .svg or .pdf.

    Returns:
        0 if the goal was reached, else 1.

    Raises:
        CommandError: An argument is not as listed above, or the device or picture not possible.
        MissingExtraError: matplotlib is not installed.
    """
    need("matplotlib", extra="demo", for_what="machin-fast demo")
    _check_at_least("seed", seed, 0)
    _check_at_least("steps", steps, 1)
    _check_device(device)
    output = _check_output(output)
    console = Console()
    console.print(
        f"Double DQN with prioritized replay on {ENVIRONMENT} ({device}, seed {seed}), until its "
        f"greedy episodes average {GOAL:g}.",
        highlight=False,
    )
    with one_thread():
        training = Training(device=torch.device(device), seed=seed)
        with profile() as profiled:
            _train(training, steps, console)
    history, seconds = training.history, profiled.seconds
    console.print(profiled)
    draw_learning_curve(
        output,
        title=f"Double DQN with prioritized replay on {ENVIRONMENT}, seed {seed}",
        episodes=history.episodes,
        evaluations=history.evaluations,
        goal=GOAL,
    )
    episodes = training.settings.evaluation_episodes
    console.print(_conclusion(history, episodes, seconds), highlight=False)
    console.print(f"Learning curve: {output}", soft_wrap=True, highlight=False)
    return 0 if history.solved else 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to one thread: networks this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(training: Training, steps: int, console: Console) -> None:
    """Carries the training on to its end."""
    history = training.history
    start = time.perf_counter()
    progress = Progress(
        BarColumn(bar_width=None),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
    )
    with progress:
        task = progress.add_task("", total=steps)
        while not history.solved and history.steps < steps:
            training.turn()
            text = _progress_text(history, time.perf_counter() - start)
            progress.update(task, completed=min(history.steps, steps), description=text)
        if not history.evaluations or history.evaluations[-1][0] < history.steps:
            training.evaluate()


def _progress_text(history: History, seconds: float) -> str:
    recent = [value for _, value in history.episodes[-20:]]
    episode = f"{sum(recent) / len(recent):.0f}" if recent else "-"
    evaluation = f"{history.evaluations[-1][1]:.0f}" if history.evaluations else "-"
    return (
        f"{history.steps:,} steps  {history.steps / seconds:,.0f} steps/s  "
        f"episode return {episode}  evaluation {evaluation}"
    )


def _conclusion(history: History, episodes: int, seconds: float) -> str:
    took = f"after {history.steps:,} steps and {seconds:.1f} s of training"
    if history.solved:
        mean = history.evaluations[-1][1]
        return f"Solved: {episodes} greedy episodes average {mean:.1f}, {took}."
    best = max(mean for _, mean in history.evaluations)
    return (
        f"Not solved {took}: the best average of {episodes} greedy episodes was {best:.1f}, the "
        f"goal is {GOAL:g}. Try more --steps or another --seed."
    )


def _check_at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise CommandError(f"demo: --{option} must be at least {least}, got {value}")


def _check_device(device: str) -> None:
    if device != "cuda":
        return
    if not torch.cuda.is_available():
        raise CommandError(
            "demo: --device must be one that torch can use, got cuda, and torch "
            f"{torch.__version__} sees no GPU. Use --device cpu"
        )
    info = build_info()
    if info.cuda is None:
        raise CommandError(
            "demo: --device must be one that machin_fast was built for, got cuda, and there are "
            f"no CUDA kernels ({info.cuda_reason}). Use --device cpu, or rebuild"
        )


def _check_output(output: Path) -> Path:
    """The absolute path, whose folder exists: nobody should train for nothing."""
    if output.suffix not in (".png", ".svg", ".pdf"):
        raise CommandError(f"demo: --output must end in .png, .svg or .pdf, got {output}")
    output = output.absolute()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()
    except OSError as error:
        raise CommandError(f"demo: --output must be a file to write, got {error}") from error
    return output

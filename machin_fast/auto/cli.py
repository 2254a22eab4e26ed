"""``machin-fast``: the commands and their options.

Only what the options need is imported here, so that ``--help`` answers at once; each command
imports what it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from machin_fast.auto.errors import CommandError
from machin_fast.utils.extras import MissingExtraError


@dataclass(frozen=True)
class Demo:
    """Train Double DQN with prioritized replay on CartPole-v1 until it is solved.

    Solved means that 20 greedy episodes, in environments of their own, average 475. Shows the
    progress and where the time went, and draws the learning curve. If the steps do not suffice,
    the exit code is 1.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    """Where networks and replay live."""
    seed: int = 0
    """Of networks, exploration, replay and environments."""
    steps: int = 100_000
    """Environment steps to give up after."""
    output: Path = Path("learning_curve.png")
    """Picture to write: .png, .svg or .pdf."""

    def run(self) -> int:
        from machin_fast.auto.demo.command import run

        return run(device=self.device, seed=self.seed, steps=self.steps, output=self.output)


@dataclass(frozen=True)
class Info:
    """Show what was built, and what of it is in use: for bug reports and for the curious."""

    def run(self) -> int:
        from machin_fast import build_info

        print(build_info())
        return 0


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: Words of the command line after the program's name. None: those of this process.

    Returns:
        Exit code: 0 if all went well, 1 if a goal was not reached, 2 if it could not be tried,
        130 if the user stopped it.
    """
    command: Demo | Info = tyro.cli(
        Demo | Info,
        prog="machin-fast",
        description="Reinforcement learning for PyTorch with a C++/CUDA engine.",
        args=args,
    )
    try:
        return command.run()
    except (CommandError, MissingExtraError) as error:
        print(f"machin-fast: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130

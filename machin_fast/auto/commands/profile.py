"""``machin-fast profile``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console

from machin_fast.auto.cli import Profile as Options
from machin_fast.auto.commands.settings import experiment_of
from machin_fast.auto.commands.train import close, told_in_one_line
from machin_fast.auto.errors import CommandError
from machin_fast.training import Hooks, Profile, Trainer, profile
from machin_fast.utils.extras import need

if TYPE_CHECKING:
    from machin_fast.data import Trajectory


def run(options: Options) -> int:
    """Trains for some seconds, and shows where they went.

    Args:
        options: Of the command line.

    Returns:
        0.
    """
    if not options.seconds > 0:
        raise CommandError(f"--seconds must be above 0, got {options.seconds}")
    if options.resume:
        raise CommandError("--resume has no meaning here: a profile begins a run of its own")
    if options.output is not None:
        need("matplotlib", extra="demo", for_what="machin-fast profile --output")
    console = Console()
    with told_in_one_line():
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
        experiment = experiment_of(options)
        look = Look(profile(trace=options.trace), options.seconds)
        trainer = experiment.trainer(hooks=[look])
        console.print(
            f"{experiment.algo} in {experiment.env}: {experiment.envs} environments "
            f"({experiment.vector}), networks on {experiment.device}; looking for "
            f"{options.seconds:g} s.",
            highlight=False,
        )
        try:
            trainer.train()
        finally:
            look.close()
            close(trainer)
        console.print(look.profile)
        if options.output is not None:
            look.profile.save(options.output / "profile.json")
            title = f"{experiment.algo} in {experiment.env}"
            look.profile.draw(options.output / "profile.png", title=title)
            console.print(f"Figures and picture: {options.output}", soft_wrap=True)
        if options.trace is not None:
            console.print(f"Trace: {options.trace}", soft_wrap=True)
    return 0


class Look(Hooks):
    """Profiles a run for some seconds from its first update on, and ends it then.

    Args:
        profile: A new one.
        seconds: How long.
    """

    def __init__(self, profile: Profile, seconds: float) -> None:
        self.profile = profile
        self._seconds = seconds
        self._since: float | None = None
        self._closed = False

    def on_update(self, trainer: Trainer, figures: dict[str, float]) -> None:
        # The first phase of learning makes optimizers' states and fills caches.
        if self._since is None and figures:
            self._begin()

    def on_rollout(self, trainer: Trainer, trajectory: Trajectory) -> None:
        if self._since is not None and time.perf_counter() - self._since >= self._seconds:
            self.close()
            trainer.stop("looked long enough")

    def close(self) -> None:
        """Ends the profile; begins it before if that did not happen yet."""
        if self._since is None:
            self._begin()
        if not self._closed:
            self._closed = True
            self.profile.__exit__(None, None, None)

    def _begin(self) -> None:
        self.profile.__enter__()
        self._since = time.perf_counter()

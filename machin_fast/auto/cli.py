"""``machin-fast``: the commands and their options.

Only what the options need is imported here, so that ``--help`` answers at once; each command
imports what it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import tyro

from machin_fast.auto.errors import CommandError
from machin_fast.auto.names import unknown
from machin_fast.utils.extras import MissingExtraError

# Options that a preset decides where nobody else does: no default to show.
_UNSAID = {"help_behavior_hint": ""}
Text = Annotated[str | None, tyro.conf.arg(metavar="NAME", **_UNSAID)]
Count = Annotated[int | None, tyro.conf.arg(metavar="N", **_UNSAID)]
Number = Annotated[float | None, tyro.conf.arg(metavar="X", **_UNSAID)]
Sizes = Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="N [N ...]", **_UNSAID)]
Place = Annotated[Path | None, tyro.conf.arg(metavar="PATH", **_UNSAID)]
Vector = Annotated[Literal["pool", "sync", "native"] | None,
                   tyro.conf.arg(metavar="{pool,sync,native}", **_UNSAID)]  # fmt: skip
Assignments = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE", **_UNSAID)
]


class Command(Protocol):
    """What the program can be told to do."""

    def run(self) -> int:
        """Does it; returns the exit code."""


@dataclass(frozen=True)
class Train:
    """Train an algorithm in an environment.

    What is not said is as docs/learning.md found it good for the algorithm and the kind of
    environment. Writes figures, checkpoints and a learning curve to a folder. Ctrl-C ends it
    after a checkpoint; --resume goes on from there.
    """

    algo: Text = None
    """Algorithm, such as ppo: see `machin-fast list`."""
    env: Text = None
    """Environment of Gymnasium's registry, such as CartPole-v1."""
    steps: Count = None
    """Environment steps, of all environments together."""
    goal: float | Literal["solved", "none"] = "solved"
    """Mean return of an evaluation that ends the run; "solved" is what the environment says."""
    seed: Count = None
    """Of networks, exploration, memory and environments."""
    device: Text = None
    """Where networks and memory live, such as cuda."""
    folder: Place = None
    """Of the run; a new one in runs/ if not given."""
    resume: bool = False
    """Go on from the newest checkpoint, of --folder or of the newest run alike."""
    envs: Count = None
    """Environments side by side."""
    vector: Vector = None
    """Who steps them: as many worker processes as pay, this process, or C++ (few of them)."""
    workers: Count = None
    """Worker processes of the pool, instead of as many as pay."""
    threads: Count = None
    """Of torch."""
    batch_size: Count = None
    """Steps to learn from at once."""
    learning_rate: Number = None
    """Of all networks."""
    hidden: Sizes = None
    """Sizes of hidden layers."""
    rollout: Count = None
    """Steps in each environment between two phases of learning."""
    updates: Count = None
    """Updates in a phase of learning."""
    evaluation_every: Count = None
    """Steps between evaluations; 0: none."""
    evaluation_episodes: Count = None
    """Episodes of an evaluation."""
    checkpoint_every: Count = None
    """Steps between checkpoints; 0: one at the end."""
    option: Assignments = ()
    """Another argument of the algorithm, such as gae_lambda=0.9; may be given several times."""
    env_option: Assignments = ()
    """An argument of the environment."""
    tensorboard: bool = False
    """Write figures for TensorBoard, too."""
    wandb: Text = None
    """Send figures to this project of Weights & Biases, too."""
    video: bool = False
    """Film an episode at each evaluation."""

    def run(self) -> int:
        from machin_fast.auto.commands.train import run

        return run(self)


@dataclass(frozen=True)
class Profile(Train):
    """Show where the time of a training run goes, and what to try.

    Takes what `train` takes. It begins when learning does, runs for some seconds and keeps
    nothing of what was learned.
    """

    seconds: float = 20.0
    """How long to look."""
    output: Place = None
    """Folder for profile.json and profile.png."""
    trace: Place = None
    """File for each stay in a stage, to look at in ui.perfetto.dev or chrome://tracing."""

    def run(self) -> int:
        from machin_fast.auto.commands.profile import run

        return run(self)


@dataclass(frozen=True)
class Evaluate:
    """Tell how well a trained policy does."""

    folder: tyro.conf.Positional[Path]
    """Of a run, or of a checkpoint."""
    episodes: int = 100
    """To play, greedily."""
    seed: int = 2_000_000
    """Of the episodes."""
    newest: bool = False
    """The newest checkpoint instead of the best."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        from machin_fast.auto.commands.evaluate import run

        return run(self)


@dataclass(frozen=True)
class Enjoy:
    """Watch a trained policy in a window, or film it."""

    folder: tyro.conf.Positional[Path]
    """Of a run, or of a checkpoint."""
    episodes: int = 3
    """To play."""
    seed: int = 3_000_000
    """Of the episodes."""
    newest: bool = False
    """The newest checkpoint instead of the best."""
    record: Place = None
    """Folder for videos, instead of a window."""

    def run(self) -> int:
        from machin_fast.auto.commands.enjoy import run

        return run(self)


@dataclass(frozen=True)
class Generate:
    """Write a configuration to edit and launch."""

    algo: str
    """Algorithm: see `machin-fast list`."""
    env: str
    """openai_gym, for a configuration as Machin has it; or an environment, such as CartPole-v1."""
    output: Path = Path("config.json")
    """File to write."""
    print: bool = False
    """Show it instead."""

    def run(self) -> int:
        from machin_fast.auto.commands.generate import run

        return run(self)


@dataclass(frozen=True)
class Launch:
    """Train what a configuration describes."""

    config: Path
    """File of `machin-fast generate`, edited or not; or config.json of a run."""
    folder: Place = None
    """Of the run."""
    resume: bool = False
    """Go on from the newest checkpoint in --folder."""
    engine: Literal["native", "lightning"] = "native"
    """Whose loop it is: ours, or that of Lightning's Trainer."""
    allow_import: bool = False
    """Let names in the configuration import modules: only of files that you trust like programs."""

    def run(self) -> int:
        from machin_fast.auto.commands.launch import run

        return run(self)


@dataclass(frozen=True)
class List:
    """List algorithms and environments."""

    algo: bool = False
    """Algorithms alone."""
    env: bool = False
    """Environments alone."""

    def run(self) -> int:
        from machin_fast.auto.commands.listing import run

        return run(self)


@dataclass(frozen=True)
class Tune:
    """Look for better settings of a training run, by Optuna."""

    algo: str
    """Algorithm."""
    env: str
    """Environment."""
    trials: int = 20
    """Runs."""
    steps: int = 20_000
    """Of each."""
    seed: int = 0
    """Of the search and of the runs."""
    output: Path = Path("tuned.json")
    """Configuration to write, for `machin-fast launch`."""

    def run(self) -> int:
        from machin_fast.auto.commands.tune import run

        return run(self)


@dataclass(frozen=True)
class Bench:
    """Measure this machine in some seconds: replay, returns, environments, updates."""

    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        from machin_fast.auto.commands.bench import run

        return run(self)


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
        from machin_fast.auto.commands.info import run

        return run()


COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "profile": Profile,
    "evaluate": Evaluate,
    "enjoy": Enjoy,
    "generate": Generate,
    "launch": Launch,
    "list": List,
    "tune": Tune,
    "bench": Bench,
    "demo": Demo,
    "info": Info,
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: Words of the command line after the program's name. None: those of this process.

    Returns:
        Exit code: 0 if all went well, 1 if a goal was not reached, 2 if it could not be tried,
        130 if the user stopped it.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(_overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    try:
        return _command(words).run()
    except (CommandError, MissingExtraError) as error:
        print(f"machin-fast: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _command(words: Sequence[str]) -> Command:
    name, *rest = words
    if name not in COMMANDS:
        raise CommandError(f"{unknown('command', name, COMMANDS)} See machin-fast --help")
    # The options of this command alone: to build those of all takes twice as long.
    command: Command = tyro.cli(
        COMMANDS[name],
        prog=f"machin-fast {name}",
        args=rest,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return command


def _overview() -> str:
    lines = [
        "usage: machin-fast COMMAND [OPTIONS]", "",
        "Reinforcement learning for PyTorch with a C++/CUDA engine.", "", "commands:",
    ]  # fmt: skip
    for name, command in COMMANDS.items():
        about = (command.__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:<10} {about}")
    return "\n".join([*lines, "", "machin-fast COMMAND --help shows the options of a command."])

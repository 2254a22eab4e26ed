"""``machin-fast list``."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from machin_fast.auto.cli import List
from machin_fast.auto.presets import PRESETS

_WORDS = {
    "discrete": "one of several", "choices": "several choices", "bounded": "bounded vectors",
    "box": "any vectors",
}  # fmt: skip


def run(options: List) -> int:
    """Prints names of algorithms and environments.

    Args:
        options: Of the command line.

    Returns:
        0.
    """
    both = options.algo == options.env
    console = Console()
    if options.algo or both:
        console.print(_algorithms())
    if options.env or both:
        console.print(_environments(), highlight=False)
    return 0


def _algorithms() -> Table:
    table = Table(title="Algorithms", title_justify="left")
    for heading in ("--algo", "class", "learns", "actions"):
        table.add_column(heading)
    for name, preset in PRESETS.items():
        learns = "on policy" if preset.replay is None else "off policy"
        if preset.replay is not None and preset.replay.get("priority"):
            learns += ", prioritized"
        actions = ", ".join(_WORDS[each] for each in preset.actions)
        table.add_row(name, preset.frame, learns, actions)
    return table


def _environments() -> str:
    import gymnasium

    from machin_fast.ops.native_envs import SIZES

    plain = sorted({each for each in gymnasium.registry if "/" not in each})
    return (
        f"Environments of Gymnasium's registry: {', '.join(plain)}\n"
        f"Also in C++ (--vector native): {', '.join(SIZES)}\n"
        "As Machin names them, for generate: openai_gym"
    )

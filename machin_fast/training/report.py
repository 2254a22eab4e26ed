"""Figures of a training run for the terminal."""

from __future__ import annotations

from rich.table import Table

from machin_fast.utils.stages import Stages


def throughput_table(stages: Stages, *, seconds: float, counts: dict[str, int]) -> Table:
    """Where the time went, by stage, and how much was done in it.

    Args:
        stages: Times by stage.
        seconds: Time that the run took; what is in no stage is shown as "other".
        counts: What was done how often, for example ``{"environment steps": 50_000}``.

    Returns:
        A table to print: a row per stage, then the totals and the rate of each count.
    """
    table = Table(title="Where the time went", title_justify="left", show_footer=False)
    table.add_column("stage")
    for heading in ("seconds", "share", "calls", "µs per call"):
        table.add_column(heading, justify="right")
    for name, stage in stages.items():
        table.add_row(
            name,
            f"{stage.seconds:.2f}",
            f"{stage.seconds / seconds:.1%}",
            f"{stage.calls:,}",
            f"{1e6 * stage.seconds / max(stage.calls, 1):,.0f}",
        )
    other = seconds - stages.seconds()
    table.add_row("other", f"{other:.2f}", f"{other / seconds:.1%}", "", "")
    table.add_section()
    table.add_row("all", f"{seconds:.2f}", "100.0%", "", "", style="bold")
    for name, count in counts.items():
        table.add_row(f"{name} per second", f"{count / seconds:,.0f}", "", f"{count:,}", "")
    return table

"""A profile for the terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from machin_fast.utils.extras import need

_BAR = 14  # characters
_MOST_WORKERS = 16  # that are listed
_COLORS = {
    "env": "#2f6690", "act": "#81a4cd", "store": "#3a7d44", "sample": "#9dc08b",
    "learn": "#d1495b", "priorities": "#edae49", "sync": "#8d6a9f", "evaluate": "#c9a7c7",
    "other": "#b8b8b8",
}  # fmt: skip
_ANOTHER = "#6c757d"

Summary = Mapping[str, Any]


def tables(summary: Summary) -> Group:
    """What ``print`` shows of a profile.

    Args:
        summary: As ``Profile.summary`` returns.

    Returns:
        Stages, totals, workers and advice.
    """
    parts: list[RenderableType] = [_stages(summary)]
    if summary["workers"]:
        parts.append(_workers(summary))
    parts.append(_conclusion(summary))
    return Group(*parts)


def _stages(summary: Summary) -> Table:
    table = Table(
        title="Where the time went",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("stage", no_wrap=True)
    table.add_column("", width=_BAR, no_wrap=True)
    for heading in ("share", "seconds", "calls", "µs/call", "moved"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in summary["stages"]:
        name, calls = each["name"], each["calls"]
        bar = Text("█" * round(_BAR * each["share"]), _COLORS.get(name, _ANOTHER))
        each_call = f"{1e6 * each['seconds'] / calls:,.0f}" if calls else ""
        style = "bold" if name == summary["slowest"] else ""
        table.add_row(
            name, bar, f"{each['share']:.1%}", f"{each['seconds']:.2f}",
            f"{calls:,}" if calls else "", each_call, _size(each["bytes"]), style=style,
        )  # fmt: skip
    table.add_section()
    moved = sum(each["bytes"] for each in summary["stages"])
    table.add_row("all", "", "100.0%", f"{summary['seconds']:.2f}", "", "", _size(moved))
    return table


def _workers(summary: Summary) -> Table:
    table = Table(title="Worker processes", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("worker")
    for heading in ("working", "waiting", "watched"):
        table.add_column(heading, justify="right")
    workers = summary["workers"]
    for number, each in enumerate(workers[:_MOST_WORKERS]):
        table.add_row(
            f"{number} (pid {each['pid']})", f"{each['working']:.0%}", f"{each['waiting']:.0%}",
            f"{each['seconds']:.2f} s",
        )  # fmt: skip
    if more := workers[_MOST_WORKERS:]:
        working = sum(each["working"] for each in more) / len(more)
        table.add_row(f"{len(more)} more", f"{working:.0%}", f"{max(0, 1 - working):.0%}", "")
    return table


def _conclusion(summary: Summary) -> Text:
    moved = sum(each["bytes"] for each in summary["stages"]) / max(summary["seconds"], 1e-9)
    machine = summary["machine"]
    lines = [
        f"{summary['steps_per_second']:,.0f} environment steps/s, "
        f"{summary['updates_per_second']:,.0f} updates/s, {_size(moved) or '0 B'}/s moved.",
        f"This process kept {summary['cores_busy']:.1f} of {machine['cores']} cores busy."
        + (f" GPU ({machine['gpu']}): busy {summary['gpu_busy']:.0%} of the time."
           if summary["gpu_busy"] is not None else ""),
    ]  # fmt: skip
    share = next(each["share"] for each in summary["stages"] if each["name"] == summary["slowest"])
    lines.append(f"Slowest stage: {summary['slowest']}, {share:.0%} of the time. Try:")
    lines += [f"  - {each}" for each in summary["advice"]]
    if not summary["advice"]:
        lines[-1] = lines[-1].removesuffix(" Try:")
    return Text("\n".join(lines))


def _size(count: float) -> str:
    if not count:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"


def draw(summary: Summary, path: Path, title: str) -> None:
    """Draws a bar for each stage.

    Args:
        summary: As ``Profile.summary`` returns.
        path: Of the picture; the ending names the format.
        title: Stands above it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    need("matplotlib", extra="demo", for_what="A picture of a profile")
    # No pyplot: it would want a display and keep the figure.
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    stages = [each for each in summary["stages"] if each["share"] >= 0.0005]
    names = [each["name"] for each in stages]
    shares = [each["share"] for each in stages]
    figure = Figure(figsize=(9, 1.6 + 0.42 * len(stages)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(names, shares, color=[_COLORS.get(name, _ANOTHER) for name in names])
    labels = [
        f" {each['share']:.1%}   {each['seconds']:.2f} s" + _per_call(each) for each in stages
    ]
    axes.bar_label(bars, labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * max(shares, default=1.0))  # room for labels
    axes.set_xticks([x for x in axes.get_xticks() if x <= 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title(
        f"{title}\n{summary['steps_per_second']:,.0f} environment steps/s, "
        f"{summary['updates_per_second']:,.0f} updates/s, {summary['seconds']:.1f} s",
        fontsize=11,
    )
    axes.set_xlabel("share of the time")
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _per_call(stage: Mapping[str, Any]) -> str:
    if not stage["calls"]:
        return ""
    return f"   {1e6 * stage['seconds'] / stage['calls']:,.0f} µs x {stage['calls']:,}"

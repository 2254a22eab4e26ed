"""What a run found: a table for people, JSON for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.harness import Demand, Footprint, Goal, Kind, Row, Timing


@dataclass(frozen=True)
class Verdict:
    demand: Demand
    # Time of the peer over ours; None where that peer was not timed.
    ratio: float | None
    # Who might have been the best peer, had it been timed.
    absent: tuple[str, ...]

    @property
    def met(self) -> bool | None:
        return None if self.ratio is None else self.ratio >= self.demand.ratio

    def __str__(self) -> str:
        wanted = f"{self.demand.ratio:.3g}x {self.demand.over} demanded"
        if self.ratio is None:
            return f"{wanted}, [yellow]peer not timed[/]"
        word = "[green]met[/]" if self.met else "[red]not met[/]"
        caveat = f" without {', '.join(self.absent)}" if self.absent else ""
        return f"{wanted}, {self.ratio:.2f}x, {word}{caveat}"


@dataclass
class Report:
    """The rows of one stem."""

    stem: str
    console: Console
    rows: list[dict[str, Any]] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    met: int = 0
    not_met: int = 0

    def add(self, row: Row, timings: list[Timing]) -> None:
        """Shows a row as soon as it is measured, and keeps it for the file."""
        self.missing |= row.missing
        self.wrong |= {f"{name}, {row.case}": why for name, why in row.wrong.items()}
        best = _fastest(timings, {Kind.LIBRARY, Kind.PLAIN})
        table = Table(title=f"{self.stem}: {row.case}, {row.op}", title_justify="left")
        table.add_column("candidate", min_width=28)
        for heading in ("time", "spread", "items/s", "x best peer"):
            table.add_column(heading, justify="right")
        verdicts: list[tuple[str, Verdict]] = []
        for timing in sorted(timings, key=lambda t: t.nanoseconds):
            ours = timing.candidate.kind is Kind.OURS
            ratio = best.nanoseconds / timing.nanoseconds if ours and best else None
            absent = tuple(sorted(row.missing | row.wrong))
            mine = [_judge(timing, demand, timings, absent) for demand in timing.candidate.demands]
            table.add_row(
                timing.candidate.name,
                _duration(timing.nanoseconds),
                f"{timing.spread:.0%}",
                _count(row.items / timing.nanoseconds * 1e9),
                "" if ratio is None else f"{ratio:.2f}",
                style="bold" if ours else "",
            )
            self.rows.append(_record(row, timing, ratio, mine))
            verdicts += ((timing.candidate.name, verdict) for verdict in mine)
        self.console.print(table)
        for name, verdict in verdicts:
            self.console.print(f"  {name}: {verdict}", highlight=False)
        self.met += sum(verdict.met is True for _, verdict in verdicts)
        self.not_met += sum(verdict.met is False for _, verdict in verdicts)

    def add_footprints(self, footprints: list[Footprint]) -> None:
        """Shows memory, and keeps it for the file."""
        table = Table(title=f"{self.stem}: bytes for each transition", title_justify="left")
        table.add_column("candidate")
        table.add_column("case")
        for heading in ("needed", "held", "ratio", "demanded"):
            table.add_column(heading, justify="right")
        for x in footprints:
            word = "[green]met[/]" if x.met else "[red]not met[/]"
            figures = (str(x.needed_bytes), f"{x.held_bytes:.1f}", f"{x.ratio:.3f}")
            table.add_row(x.candidate, x.case, *figures, f"{x.most:.3g} at most, {word}")
        self.console.print(table)
        self.footprints += footprints
        self.met += sum(x.met for x in footprints)
        self.not_met += sum(not x.met for x in footprints)

    def add_goals(self, goals: list[Goal]) -> None:
        """Shows trainings to a goal, and keeps them for the file."""
        table = Table(title=f"{self.stem}: to the goal", title_justify="left")
        table.add_column("candidate")
        table.add_column("case")
        for heading in ("seed", "seconds", "steps", "score"):
            table.add_column(heading, justify="right")
        for x in goals:
            score = f"{x.score:.0f}"
            if not x.reached:
                score += f" [red]< {x.goal:.0f}[/]"
            table.add_row(x.candidate, x.case, str(x.seed), f"{x.seconds:.1f}", str(x.steps), score)
        self.console.print(table)
        self.goals += goals

    def close(self, machine: dict[str, Any], folder: Path | None) -> None:
        """Names who was left out, and writes ``<stem>.json``."""
        for name, why in sorted(self.missing.items()):
            self.console.print(
                f"[yellow]left out[/] {name}: {escape(why)}", highlight=False, soft_wrap=True
            )
        for name, why in sorted(self.wrong.items()):
            self.console.print(
                f"[red]wrong, not timed[/] {name}: {escape(why)}", highlight=False, soft_wrap=True
            )
        self.console.print()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            content = {
                "stem": self.stem,
                "machine": machine,
                "rows": self.rows,
                "footprints": [asdict(x) | {"met": x.met} for x in self.footprints],
                "goals": [asdict(x) for x in self.goals],
                "left_out": self.missing,
                "wrong": self.wrong,
            }
            (folder / f"{self.stem}.json").write_text(json.dumps(content, indent=1) + "\n")


def _fastest(timings: list[Timing], kinds: set[Kind]) -> Timing | None:
    chosen = [t for t in timings if t.candidate.kind in kinds]
    return min(chosen, key=lambda t: t.nanoseconds, default=None)


def _judge(ours: Timing, demand: Demand, timings: list[Timing], absent: tuple[str, ...]) -> Verdict:
    if demand.over == "peer":
        peer = _fastest(timings, {Kind.LIBRARY, Kind.PLAIN})
    elif demand.over == "library":
        peer = _fastest(timings, {Kind.LIBRARY})
    else:
        peer = next((t for t in timings if t.candidate.name == demand.over), None)
        absent = ()
    ratio = None if peer is None else peer.nanoseconds / ours.nanoseconds
    return Verdict(demand, ratio, absent)


def _record(
    row: Row, timing: Timing, ratio: float | None, verdicts: list[Verdict]
) -> dict[str, Any]:
    return {
        "case": row.case,
        "op": row.op,
        "device": row.plan.device,
        "items": row.items,
        "candidate": timing.candidate.name,
        "kind": timing.candidate.kind.value,
        "threads": timing.candidate.threads,
        "nanoseconds": timing.nanoseconds,
        "spread": timing.spread,
        "repeats": timing.repeats,
        "ratio_to_best_peer": ratio,
        "demands": [
            {
                "ratio": v.demand.ratio,
                "over": v.demand.over,
                "reached": v.ratio,
                "met": v.met,
                "without": v.absent,
            }
            for v in verdicts
        ],
    }


def _duration(nanoseconds: float) -> str:
    return _scaled(nanoseconds, (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1)))


def _count(rate: float) -> str:
    return _scaled(rate, (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1)))


def _scaled(value: float, units: tuple[tuple[str, float], ...]) -> str:
    """Three digits; 999.6 k is 1 M already."""
    unit, size = next((u for u in units if value >= 0.9995 * u[1]), units[-1])
    return f"{value / size:.3g} {unit}".rstrip()

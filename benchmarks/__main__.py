"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks
from benchmarks.machine import describe, limit_threads

if TYPE_CHECKING:
    from benchmarks.harness import Plan
    from benchmarks.report import Report


def main() -> int:
    stems = sorted(
        module.name.removeprefix("bench_")
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name.startswith("bench_")
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("stem", nargs="*", help=f"what to measure (all): {', '.join(stems)}")
    parser.add_argument("--quick", action="store_true", help="few sizes, rough figures")
    parser.add_argument("--json", type=Path, metavar="DIR", help="write <stem>.json there")
    parser.add_argument("--threads", type=int, default=1, help="for every candidate (1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--algorithm", help="of the stems algorithms and training, this one")
    options = parser.parse_args()
    if unknown := set(options.stem) - set(stems):
        parser.error(f"stem must be one of {', '.join(stems)}, got {', '.join(sorted(unknown))}")

    # Before torch and the peers are imported: thread pools are sized then.
    limit_threads(options.threads)
    import torch
    from rich.console import Console

    from benchmarks.harness import Plan
    from benchmarks.report import Report

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("device must be cpu where torch sees no GPU, got cuda")
    torch.set_num_threads(options.threads)
    plan = Plan(options.quick, options.threads, options.device, options.algorithm)
    console = Console()
    machine = describe(plan.device)
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']:.1f}, "
        f"torch {machine['versions']['torch']}, {plan.threads} thread(s)",
        highlight=False,
    )
    failed = False
    met = not_met = 0
    for stem in options.stem or stems:
        report = Report(stem, console)
        try:
            _run(stem, plan, report)
        except Exception:  # one broken stem must not hide the figures of the others
            traceback.print_exc()
            failed = True
        report.close(machine, options.json)
        failed |= any(name.startswith("ours") for name in report.wrong)
        met, not_met = met + report.met, not_met + report.not_met
    console.print(f"{met} demands met, {not_met} not met", highlight=False)
    return int(failed)


def _run(stem: str, plan: Plan, report: Report) -> None:
    from benchmarks.harness import measure

    module = importlib.import_module(f"benchmarks.bench_{stem}")
    if hasattr(module, "footprints"):
        report.add_footprints(module.footprints(plan))
    if hasattr(module, "report"):  # of what cannot take turns in one process
        module.report(plan, report)
        return
    for row in module.rows(plan):
        report.add(row, measure(row))
        del row  # its replays fill gigabytes, so they must go before the next row's are made


if __name__ == "__main__":
    sys.exit(main())

"""The table of times."""

from __future__ import annotations

import io

from rich.console import Console

from machin_fast.training.report import throughput_table
from machin_fast.utils.stages import Stages


def test_shares_add_up_and_the_rest_is_shown():
    stages = Stages()
    stages("act").seconds, stages("act").calls = 1.0, 4
    stages("learn").seconds, stages("learn").calls = 2.5, 2000
    text = io.StringIO()
    Console(file=text, width=100).print(
        throughput_table(stages, seconds=5.0, counts={"environment steps": 10_000})
    )
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in text.getvalue().split("\n")
    ]
    assert [row for row in rows if row] == [
        ["act", "1.00", "20.0%", "4", "250,000"],
        ["learn", "2.50", "50.0%", "2,000", "1,250"],
        ["other", "1.50", "30.0%", "", ""],
        ["all", "5.00", "100.0%", "", ""],
        ["environment steps per second", "2,000", "", "10,000", ""],
    ]

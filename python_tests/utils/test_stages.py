"""Stage times, on a clock that the test turns."""

from __future__ import annotations

import time

import pytest

from machin_fast.utils.stages import Stages


def test_times_and_calls_add_up_by_name(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    stages = Stages()
    for seconds in (1.0, 2.0):
        with stages("act"):
            now += seconds
        now += 10
        with stages("learn"):
            now += 0.5
    assert [(name, stage.seconds, stage.calls) for name, stage in stages.items()] == [
        ("act", 3.0, 2),
        ("learn", 1.0, 2),
    ]
    assert stages.seconds() == 4.0


def test_an_error_inside_is_counted_and_passes(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    stages = Stages()
    with pytest.raises(KeyError), stages("act"):
        now += 1
        raise KeyError
    assert stages("act").seconds == 1.0

"""Stage times, on a clock that the test turns."""

from __future__ import annotations

import time

import pytest

from machin_fast.utils.stages import Stages


def test_times_and_calls_add_up_by_name(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 10.5, 20.0, 22.0, 30.0, 30.5])
    monkeypatch.setattr(time, "perf_counter", clock.__next__)
    stages = Stages()
    for _ in range(2):
        with stages("act"):
            pass
        with stages("learn"):
            pass
    assert [(name, stage.seconds, stage.calls) for name, stage in stages.items()] == [
        ("act", 3.0, 2),
        ("learn", 1.0, 2),
    ]
    assert stages.seconds() == 4.0


def test_an_error_inside_is_counted_and_passes(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", iter([0.0, 1.0]).__next__)
    stages = Stages()
    with pytest.raises(KeyError), stages("act"):
        raise KeyError
    assert stages("act").seconds == 1.0

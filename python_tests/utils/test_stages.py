"""Stage times, on a clock that the test turns."""

from __future__ import annotations

import threading
import time

import pytest

from machin_fast.utils import stages as module
from machin_fast.utils.stages import Span, Stages, set_counting, stage


@pytest.fixture
def clock(monkeypatch):
    """Times that come one after the other."""

    def turn(*times: float) -> None:
        monkeypatch.setattr(time, "perf_counter", iter(times).__next__)

    return turn


def figures(stages: Stages) -> list[tuple[str, float, int]]:
    return [(name, each.seconds, each.calls) for name, each in stages.items()]


def test_times_and_calls_add_up_by_name(clock):
    clock(0.0, 1.0, 3.0, 3.0, 4.0, 10.0, 10.5, 11.0)
    stages = Stages()
    with stages("act"):
        pass
    with stages("learn"):
        pass
    with stages("act"):
        pass
    stages.end()
    assert figures(stages) == [("act", 2.5, 2), ("learn", 1.0, 1), ("other", 7.5, 0)]
    assert stages.seconds() == 11.0


def test_time_within_another_stage_counts_there_alone(clock):
    clock(0.0, 1.0, 2.0, 5.0, 6.0)
    stages = Stages()
    with stages("learn"), stages("sample"):
        pass
    assert figures(stages) == [("learn", 2.0, 1), ("sample", 3.0, 1), ("other", 1.0, 0)]


def test_a_stage_within_itself_is_one(clock):
    clock(0.0, 1.0, 3.0)
    stages = Stages()
    with stages("env"), stages("env"):
        pass
    assert figures(stages)[0] == ("env", 2.0, 1)


def test_what_evaluation_does_is_evaluation(clock):
    clock(0.0, 1.0, 3.0)
    stages = Stages()
    with stages("evaluate"), stages("env"):
        assert not stages.counts_here()
    assert figures(stages) == [("evaluate", 2.0, 1), ("other", 1.0, 0)]


def test_an_error_inside_is_counted_and_passes(clock):
    clock(0.0, 1.0, 2.0)
    stages = Stages()
    with pytest.raises(KeyError), stages("act"):
        raise KeyError
    assert stages["act"].seconds == 1.0


def test_another_thread_changes_nothing():
    stages = Stages()

    def run() -> None:
        with stages("act"):
            assert not stages.counts_here()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [name for name, *_ in figures(stages)] == ["other"]


def test_spans_are_kept_as_they_end_and_not_more_than_wanted(clock):
    clock(0.0, 1.0, 2.0, 5.0, 6.0, 7.0, 8.0)
    stages = Stages(most_spans=2)
    with stages("learn"), stages("sample"):
        pass
    with stages("act"):
        pass
    assert stages.spans == [Span("sample", 2.0, 3.0), Span("learn", 1.0, 5.0)]
    assert stages.spans_left_out == 1


def test_marks_count_for_whoever_profiles():
    with stage("sync"):
        pass
    stages = Stages()
    assert set_counting(stages) is None
    try:
        with stage("sync"):
            pass
    finally:
        assert set_counting(None) is stages
    with stage("sync"):
        pass
    assert stages["sync"].calls == 1
    assert module._counting is None

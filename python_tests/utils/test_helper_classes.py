"""Counters, switches, timers, objects."""

from __future__ import annotations

import copy
import pickle
import time

import pytest

from machin_fast.utils.helper_classes import Counter, Object, Switch, Timer, Trigger


def test_a_counter_goes_up_by_steps_and_back_to_its_start():
    counter = Counter(start=2, step=3)
    counter.count()
    counter.count()
    assert counter.get() == 8
    counter.reset()
    assert counter.get() == 2
    assert Counter().get() == 0


def test_a_counter_compares_and_prints_like_its_number():
    counter = Counter(5)
    assert counter < 6 and counter <= 5 and counter > 4 and counter >= 5 and counter == 5
    assert not counter < 5 and not counter > 5 and counter != 4
    assert counter == Counter(5) and counter < Counter(6.5)
    assert repr(counter) == str(counter) == "5"


def test_a_switch_flips():
    switch = Switch()
    assert switch.get() is False
    switch.flip()
    assert switch.get() is True and switch.get() is True
    switch.off()
    assert switch.get() is False
    switch.on()
    assert switch.get() is True
    assert Switch(True).get() is True


def test_a_trigger_is_off_once_it_was_read():
    trigger = Trigger()
    assert trigger.get() is False
    trigger.on()
    assert trigger.get() is True
    assert trigger.get() is False


def test_a_timer_says_seconds_since_begin(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    timer = Timer()
    now = 101.5
    assert timer.end() == 1.5
    timer.begin()
    assert timer.end() == 0.0


# -- objects ---------------------------------------------------------------------------------------


def test_items_are_attributes_and_missing_ones_are_none():
    data = {"a": 1}
    thing = Object(data)
    thing.b = 2
    thing["c"] = 3
    assert (thing.a, thing["b"], thing.c, thing.d, thing["d"]) == (1, 2, 3, None, None)
    assert thing.attr("a") == 1 and thing.attr("d", 4, change=True) == 4
    assert thing.data is data and data == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert Object().data == {}


def test_special_names_that_are_missing_raise():
    with pytest.raises(AttributeError, match="Failed to find attribute: __some__"):
        _ = Object().__some__


def test_constants_cannot_be_set():
    thing = Object({"a": 1}, const_attrs={"a"})
    with pytest.raises(RuntimeError, match="a is const"):
        thing.a = 2
    with pytest.raises(RuntimeError, match="a is const"):
        thing["a"] = 2
    assert thing.a == 1


def test_data_is_a_dictionary():
    thing = Object({"a": 1})
    with pytest.raises(ValueError, match=r"Object: data must be a dict, got list.*a dictionary"):
        thing.data = []
    thing.data = {"b": 2}
    assert (thing.a, thing.b) == (None, 2)


@pytest.mark.parametrize("name", ["attr", "const_attrs", "__class__", "__init__"])
def test_what_an_object_is_made_of_cannot_be_set(name):
    with pytest.raises(RuntimeError, match="You should not set"):
        setattr(Object(), name, 1)


def test_names_of_methods_are_items():
    thing = Object()
    thing["attr"] = 1
    thing["data"] = 2
    assert (thing["attr"], thing["data"]) == (1, 2)
    assert thing.data == {"attr": 1, "data": 2}


def test_calling_runs_call():
    class Double(Object):
        def call(self, x):
            return 2 * x

    assert Double()(4) == 8
    thing = Object()
    assert thing(1, x=2) is None
    thing.call = lambda x: x + 1
    assert thing(1) == 2
    assert thing.data == {}


def test_copies_and_pickles_are_alike():
    thing = Object({"a": [1]}, const_attrs={"a"})
    for other in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert other.data == {"a": [1]} and other.const_attrs == {"a"}
    assert copy.deepcopy(thing).a is not thing.a

"""Loggers."""

from __future__ import annotations

import importlib
import io
import logging
import re

import pytest

import machin_fast.utils.logging
from machin_fast.utils.logging import FakeLogger, default_logger, fake_logger


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def written(monkeypatch):
    """Has the default logger write to a stream."""
    monkeypatch.delenv("NO_COLOR", raising=False)

    def to(stream: io.StringIO) -> io.StringIO:
        (handler,) = default_logger.handlers
        monkeypatch.setattr(handler, "stream", stream)
        return stream

    return to


def test_the_default_logger_says_time_level_name_and_text_from_info_on(written):
    stream = written(io.StringIO())
    assert default_logger is logging.getLogger("default_logger")
    default_logger.debug("no")
    default_logger.info("yes %d", 1)
    assert re.fullmatch(r"\[[-\d :,]+\] <INFO>:default_logger:yes 1\n", stream.getvalue())


def test_a_terminal_gets_colours_unless_it_wants_none(written, monkeypatch):
    stream = written(Terminal())
    default_logger.warning("a")
    assert re.fullmatch("\033\\[33m.*:a\033\\[0m\n", stream.getvalue())
    monkeypatch.setenv("NO_COLOR", "1")
    default_logger.error("b")
    assert "\033" not in stream.getvalue().splitlines()[1]


def test_a_second_import_adds_no_second_handler():
    importlib.reload(machin_fast.utils.logging)
    assert len(default_logger.handlers) == 1


def test_the_fake_logger_takes_all_and_says_nothing(capfd):
    assert isinstance(fake_logger, FakeLogger | machin_fast.utils.logging.FakeLogger)
    fake_logger.setLevel(logging.DEBUG)
    for name in ("debug", "info", "warning", "warn", "error", "exception", "critical"):
        getattr(fake_logger, name)("%s", 1, exc_info=False, extra={})
    fake_logger.log(logging.ERROR, "text")
    assert capfd.readouterr() == ("", "")

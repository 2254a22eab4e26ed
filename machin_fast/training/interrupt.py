"""Ctrl-C at a good moment."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Within it Ctrl-C and SIGTERM only leave a note, for a loop to end between two turns. The
    second one does what it always does: a turn may hang.

    Python lets only the main thread listen to signals: in others this does nothing. Handlers that
    a program has set itself stay.

    Attributes:
        noted: Whether there was one.
    """

    def __init__(self) -> None:
        self.noted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = True
        self.__exit__()

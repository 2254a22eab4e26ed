"""Counters, switches, timers, and objects whose attributes are a dictionary."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any


class Counter:
    """A number that goes up by steps. It compares with numbers, and prints like one.

    Args:
        start: First number.
        step: What ``count`` adds.
    """

    def __init__(self, start: int = 0, step: int = 1) -> None:
        self._count = start
        self._start = start
        self._step = step

    def count(self) -> None:
        """Adds one step."""
        self._count += self._step

    def get(self) -> int:
        """The number."""
        return self._count

    def reset(self) -> None:
        """Goes back to the first number."""
        self._count = self._start

    def __lt__(self, other: Any) -> bool:
        return self._count < other

    def __gt__(self, other: Any) -> bool:
        return self._count > other

    def __le__(self, other: Any) -> bool:
        return self._count <= other

    def __ge__(self, other: Any) -> bool:
        return self._count >= other

    def __eq__(self, other: object) -> bool:
        return self._count == other

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return str(self._count)


class Switch:
    """On or off.

    Args:
        state: Whether it is on.
    """

    def __init__(self, state: bool = False) -> None:
        self._on = state

    def flip(self) -> None:
        """Turns it off if it is on, and on if it is off."""
        self._on = not self._on

    def get(self) -> bool:
        """Whether it is on."""
        return self._on

    def on(self) -> None:
        """Turns it on."""
        self._on = True

    def off(self) -> None:
        """Turns it off."""
        self._on = False


class Trigger(Switch):
    """A switch that is off again once it was read."""

    def get(self) -> bool:
        """Whether it was on; turns it off."""
        was_on, self._on = self._on, False
        return was_on


class Timer:
    """A stopwatch, which begins when it is made."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begins anew."""
        self._began = time.perf_counter()

    def end(self) -> float:
        """Seconds since it began; it goes on."""
        return time.perf_counter() - self._began


class Object:
    """A dictionary whose items are attributes, too. What is missing is None.

    An item named like a method, or ``data``, is no attribute: read and write ``self[name]``.

    Args:
        data: The items; the object keeps this dictionary.
        const_attrs: Names that cannot be set.

    Attributes:
        data: The items.
        const_attrs: As given.
        call: Runs when the object is called; does nothing until it is set.
    """

    data: dict[str, Any]
    const_attrs: Collection[str]

    def __init__(
        self, data: dict[str, Any] | None = None, const_attrs: Collection[str] | None = None
    ) -> None:
        self.data = {} if data is None else data
        super().__setattr__("const_attrs", set() if const_attrs is None else const_attrs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Does nothing. Assign a function to ``call``, or override it."""

    def attr(self, item: str, value: Any = None, change: bool = False) -> Any:
        """Reads an item, or sets it, even a constant one.

        Args:
            item: Its name.
            value: What to set.
            change: Whether to set it.

        Returns:
            Its value; None if there is no such item.
        """
        if change:
            self.data[item] = value
        return self.data.get(item)

    def __getitem__(self, item: str) -> Any:
        return self.attr(item)

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self.const_attrs:
            raise RuntimeError(
                f"{type(self).__name__}: names to set must vary, but {key} is const."
            )
        self.attr(key, value, change=True)

    def __getattr__(self, item: str) -> Any:
        # pickle and copy look for special methods, and for ``data`` before there is any.
        if (item.startswith("__") and item.endswith("__")) or item == "data":
            raise AttributeError(f"{type(self).__name__}: Failed to find attribute: {item}")
        return self.attr(item)

    def __setattr__(self, key: str, value: Any) -> None:
        if key == "data" and not isinstance(value, dict):
            raise ValueError(
                f"{type(self).__name__}: data must be a dict, got {type(value).__name__}. "
                "The data attribute must be a dictionary."
            )
        if key in ("data", "call"):
            super().__setattr__(key, value)
        elif hasattr(type(self), key) or key in self.__dict__:
            raise RuntimeError(
                f"{type(self).__name__}: attributes to set must not be its methods, got {key}. "
                f"You should not set the {key} property; set [{key!r}] for an item of that name."
            )
        else:
            self[key] = value

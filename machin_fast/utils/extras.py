"""Packages that are installed only by who needs them."""

from __future__ import annotations

import importlib.util


class MissingExtraError(ImportError):
    """A package that is an extra of ours is not installed."""


def need(module: str, *, extra: str, for_what: str) -> None:
    """Makes sure that an optional package is there, before time is spent on what needs it.

    Args:
        module: Name of its top module.
        extra: Our extra that installs it.
        for_what: What needs it, the subject of the error text.

    Raises:
        MissingExtraError: It is not installed; the text says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(
            f"{for_what} needs {module}, which is not installed. "
            f"Install it with: pip install 'machin_fast[{extra}]'"
        )

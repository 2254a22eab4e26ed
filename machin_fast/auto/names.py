"""Names that people write, and what they may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from machin_fast.auto.errors import CommandError
from machin_fast.auto.presets import PRESETS


def algorithm(name: str) -> str:
    """An algorithm's name on the command line: of ``dqn``, ``DQN``, ``DQNPer`` and the like.

    Raises:
        CommandError: There is none of that name.
    """
    plain = {each.replace("_", ""): each for each in PRESETS}
    found = plain.get(name.lower().replace("_", "").replace("-", ""))
    if found is None:
        raise CommandError(unknown("algorithm", name, PRESETS))
    return found


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Says that there is nothing of a name.

    Args:
        what: Was named.
        name: That was given.
        known: Names that there are.

    Returns:
        A text with the nearest of these, or with all.
    """
    known = list(known)
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    if near:
        return f"unknown {what} {name!r}. Did you mean {lower[near[0]]!r}?"
    if len(known) > 40:
        return f"unknown {what} {name!r}"
    return f"unknown {what} {name!r}; known: {', '.join(sorted(known))}"

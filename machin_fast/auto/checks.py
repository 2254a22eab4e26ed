"""What a configuration may hold: names, not code. Nothing heavy is imported here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from machin_fast.auto import names
from machin_fast.auto.errors import CommandError

MOST_BYTES = 1 << 20
MOST_DEPTH = 16
MOST_VALUES = 10_000


def read_config(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Args:
        path: Of the file.

    Returns:
        What it holds.

    Raises:
        CommandError: It cannot be read, is no JSON object, or too large or deep.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CommandError(f"config: {path} must be a file to read, got {error}") from error
    if len(raw) > MOST_BYTES:
        raise CommandError(f"config: {path} must have at most {MOST_BYTES} bytes, got more")
    try:
        data = json.loads(raw, object_pairs_hook=_without_repetition)
    except CommandError:
        raise
    except (ValueError, RecursionError) as error:
        raise CommandError(f"config: {path} must be JSON, got {error}") from error
    if not isinstance(data, dict):
        raise CommandError(f"config: {path} must hold an object, got {type(data).__name__}")
    check_size(data)
    return data


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise CommandError(f"config: each key must stand once, got {twice!r} again")
    return found


def check_size(data: Any) -> None:
    """Refuses what is nested too deeply, or too much.

    Args:
        data: As JSON has it.

    Raises:
        CommandError: It is.
    """
    count, layer = 0, [data]
    for _ in range(MOST_DEPTH):
        below: list[Any] = []
        for each in layer:
            if isinstance(each, Mapping):
                below += each.values()
            elif isinstance(each, list | tuple):
                below += each
        count += len(below)
        if count > MOST_VALUES:
            raise CommandError(f"config: there must be at most {MOST_VALUES} values, got more")
        if not below:
            return
        layer = below
    raise CommandError(f"config: values must be at most {MOST_DEPTH} deep, got deeper ones")


def check_schema(data: Mapping[str, Any], version: int) -> None:
    """Refuses other versions.

    Args:
        data: A config; without ``schema_version`` it is of the first.
        version: The newest that is known.

    Raises:
        CommandError: It is newer, or no number.
    """
    given = data.get("schema_version", 1)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= version:
        raise CommandError(
            f"config: schema_version must be a whole number up to {version}, got {given!r}. "
            "A newer machin_fast may know it"
        )


def check_keys(what: str, given: Mapping[str, Any], known: Iterable[str] | None) -> None:
    """Refuses unknown keys, and says which is the nearest.

    Args:
        what: Has the keys, for errors.
        given: What somebody wrote.
        known: Keys that there are. None: any text.

    Raises:
        CommandError: One is unknown.
    """
    for key in given:
        if not isinstance(key, str):
            raise CommandError(f"{what}: keys must be text, got {key!r}")
        if known is not None and key not in (known := list(known)):
            raise CommandError(f"{what}: {names.unknown('key', key, known)}")


def check_plain_names(what: str, data: Any) -> None:
    """Refuses text that would import a module, or lead out of the present folder.

    Args:
        what: For errors.
        data: Values, however nested.

    Raises:
        CommandError: There is such a text.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            check_plain_names(f"{what}: {key}", value)
    elif isinstance(data, list | tuple):
        for value in data:
            check_plain_names(what, value)
    elif isinstance(data, str):
        path = PurePath(data.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or data.startswith("~") or "\0" in data:
            raise CommandError(f"{what} must not lead out of this folder, got {data!r}")
        if ":" in data:
            raise CommandError(
                f"{what} must be a name in a registry, got {data!r}, which would import a module. "
                "--allow-import lets it"
            )

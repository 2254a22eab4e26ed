"""Configurations: made of keywords, files and the command line."""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from machin_fast.utils.helper_classes import Object


class Config(Object):
    """Named values, as attributes or items. One that is missing reads as None.

    Args:
        **configs: The values.
    """

    def __init__(self, **configs: Any) -> None:
        super().__init__(configs)

    def get(self, key: str, default: Any = None) -> Any:
        """A value by name.

        Args:
            key: Its name.
            default: What to return if it is missing.

        Returns:
            The value, or ``default``.
        """
        return self.data.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __contains__(self, key: object) -> bool:
        return key in self.data


def load_config_cmd(merge_conf: Config | None = None) -> Config:
    """Values of the command line: ``--conf name=value``, any number of times.

    A value is JSON or a Python literal, so text stands in quotes, which the shell must leave
    there: ``--conf 'device="cuda:1"'``. No code is run.

    Args:
        merge_conf: Values to begin with.

    Returns:
        Those and the ones of the command line, which win.

    Raises:
        ValueError: There is no ``=``, or the value is neither JSON nor a literal.
        SystemExit: There are other arguments.
    """
    parser = argparse.ArgumentParser(description="Values that configure this program.")
    parser.add_argument("--conf", action="append", default=[], metavar="NAME=VALUE")
    values = {}
    for argument in parser.parse_args().conf:
        name, equals, text = argument.partition("=")
        if not name or not equals:
            raise ValueError(f"load_config_cmd: --conf must be name=value, got {argument!r}")
        values[name] = _value(name, text)
    return merge_config(Config() if merge_conf is None else merge_conf, values)


def _value(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"load_config_cmd: {name} must be JSON or a Python literal, got {text}. "
            f"Text needs quotes, also in the shell: --conf '{name}=\"text\"'"
        ) from error


def load_config_file(json_file: str | os.PathLike[str], merge_conf: Config | None = None) -> Config:
    """Values of a JSON file.

    Args:
        json_file: Its path.
        merge_conf: Values to begin with.

    Returns:
        Those and the ones of the file, which win.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not JSON, or no object.
    """
    values = json.loads(Path(json_file).read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(
            f"load_config_file: {json_file} must hold a JSON object, got {type(values).__name__}"
        )
    return merge_config(Config() if merge_conf is None else merge_conf, values)


def save_config(conf: Config, json_file: str | os.PathLike[str]) -> None:
    """Writes values to a JSON file.

    Args:
        conf: The values.
        json_file: Path of the file, which is replaced if it is there.

    Raises:
        TypeError: A value is not JSON; then nothing is written.
        OSError: The file cannot be written.
    """
    text = json.dumps(conf.data, sort_keys=True, indent=4)
    Path(json_file).write_text(text, encoding="utf-8")


def merge_config(conf: Config, merge: Mapping[str, Any] | Config) -> Config:
    """Values of both, in a new object.

    Args:
        conf: Values, which are copied.
        merge: Values that win. Of a ``Config``, those that are const in ``conf`` are left out.

    Returns:
        A deep copy of ``conf`` with the values of ``merge``.

    Raises:
        RuntimeError: A dictionary sets what is const in ``conf``.
    """
    merged = copy.deepcopy(conf)
    if isinstance(merge, Config):
        merge = {k: v for k, v in merge.data.items() if k not in conf.const_attrs}
    for key, value in merge.items():
        merged[key] = value
    return merged

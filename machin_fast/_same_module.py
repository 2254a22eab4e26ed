"""Modules under a second name: the same objects, so their classes are, too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class SameModules(MetaPathFinder, Loader):
    """Finds modules by other names.

    Args:
        own_name: From another name to ours; None where it is not for us.
    """

    def __init__(self, own_name: Callable[[str], str | None]) -> None:
        self._own_name = own_name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if self._own_name(fullname) is None else ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        name = self._own_name(spec.name)
        assert name is not None
        module = importlib.import_module(name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # its own, which import has replaced


def use_as(name: str) -> None:
    """Lets programs that import ``name``, such as machin, find this library.

    Call it before the first import of that name: ``machin_fast.use_as("machin")``, then ``from
    machin.frame.algorithms import DQN``. What is installed under that name is then not found.

    Args:
        name: Of a package at the top.

    Raises:
        ValueError: It is no name of a package at the top.
        RuntimeError: A package of that name has been imported.
    """
    if not name.isidentifier() or name == "machin_fast":
        raise ValueError(f"use_as: name must be one of a package at the top, got {name!r}")
    package = importlib.import_module("machin_fast")
    if sys.modules.get(name, package) is not package:
        raise RuntimeError(
            f"use_as: name must not have been imported yet, got {name}. Call use_as first"
        )
    if name in sys.modules:
        return

    def own_name(other: str) -> str | None:
        if other == name:
            return "machin_fast"
        return f"machin_fast{other[len(name) :]}" if other.startswith(f"{name}.") else None

    sys.meta_path.insert(0, SameModules(own_name))

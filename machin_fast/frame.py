"""Machin's import paths: ``machin_fast.frame.buffers`` is ``machin_fast.buffers``, and so on.

Modules are the same objects under both names, so classes are, too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["algorithms", "buffers", "helpers", "noise", "transition"]  # noqa: F822 (lazy)
__path__: list[str] = []  # a package, for the import statement


class _SameModule(MetaPathFinder, Loader):
    """Finds ``machin_fast.frame.x`` as the module ``machin_fast.x``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix(f"{__name__}.")
        if name == fullname or name.partition(".")[0] not in __all__:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.replace(__name__, "machin_fast", 1))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # its own, which import has replaced


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


sys.meta_path.insert(0, _SameModule())

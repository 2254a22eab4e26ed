"""Names that share a description in a docstring, for the documentation site."""

from __future__ import annotations

import re
from typing import Any

import griffe


class SharedDescriptions(griffe.Extension):
    """Of an attribute ``low, high: Bounds.`` griffe takes ``high`` for the type: it splits names at
    a space. So these get a space that does not break."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"(?<=^    )\w+(, \w+)+(?=: )",
                lambda names: names.group().replace(" ", "\N{NO-BREAK SPACE}"),
                obj.docstring.value,
                flags=re.MULTILINE,
            )

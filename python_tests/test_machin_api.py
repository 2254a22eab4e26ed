"""Every public import path of Machin that is here, and what can be called there.

``machin_api.json`` lists Machin's names and parameters. Ours may take more, by keyword.
"""

import importlib
import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest

API = json.loads((Path(__file__).parent / "machin_api.json").read_text())
CALLABLES = [(module, name, None) for module, members in API.items() for name in members] + [
    (module, name, method)
    for module, members in API.items()
    for name, methods in members.items()
    if isinstance(methods, dict)
    for method in methods
]
OTHER_DEFAULTS = ("lr_scheduler_args", "lr_scheduler_kwargs")  # None: Machin's () fails


def parameters(listed):
    """Names and defaults of what Machin's function takes; * and ** as they are."""
    names = {}
    for each in listed:
        name, _, default = each.partition("=")
        names[name.strip()] = default.strip() or None
    return names


def literal(default):
    """The value of a default; None of one that is a function or the like."""
    try:
        value = eval(default, {"np": np, "inf": math.inf})
    except NameError:
        return None
    return None if callable(value) else value


def function_of(module, name, method):
    owner = getattr(importlib.import_module(module.replace("machin.", "machin_fast.", 1)), name)
    return owner if method is None else inspect.getattr_static(owner, method)


@pytest.mark.parametrize(("module", "name", "method"), CALLABLES)
def test_machins_name_takes_what_machins_does(module, name, method):
    found = function_of(module, name, method)
    listed = API[module][name] if method is None else API[module][name][method]
    if isinstance(found, property) or listed == "property" or isinstance(listed, dict):
        return
    ours = inspect.signature(getattr(found, "__func__", found)).parameters
    theirs = parameters(listed)
    stars = {p.kind for p in ours.values()} & {
        inspect.Parameter.VAR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    }
    own = ("self", "cls")
    our_positional = [n for n, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    pairs = zip(positional(theirs), our_positional, strict=False)
    named = not (method or "").startswith("__") or method == "__init__"
    assert stars or len(our_positional) >= len(positional(theirs))
    # A name such as _1, or that of an operator, nobody writes.
    assert all(x == y or x.startswith("_") or not named for x, y in pairs) or stars
    for parameter, default in theirs.items():
        if parameter not in ours or default is None or parameter in own:
            assert parameter in ours or stars or parameter.startswith("_") or not named
            continue
        expected = literal(default)
        if parameter in OTHER_DEFAULTS and expected == ():
            expected = None
        assert expected is None or ours[parameter].default == expected, parameter


def positional(names):
    """Those before ``*_``, behind which arguments are by keyword alone."""
    before = []
    for name in names:
        if name.startswith("*"):
            break
        before.append(name)
    return before


def test_the_list_is_of_all_modules_that_are_here():
    assert len(API) == 40
    assert sum(map(len, API.values())) > 90

"""Optional packages."""

from __future__ import annotations

import pytest

from machin_fast.utils.extras import MissingExtraError, need


def test_what_is_installed_is_fine():
    need("json", extra="demo", for_what="This")


def test_what_is_missing_comes_with_the_line_that_installs_it():
    with pytest.raises(MissingExtraError) as caught:
        need("no_such_package", extra="demo", for_what="The demo")
    assert str(caught.value) == (
        "The demo needs no_such_package, which is not installed. "
        "Install it with: pip install 'machin_fast[demo]'"
    )

"""Whether results are the same, down to types."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_same(one: Any, other: Any, where: str = "result") -> None:
    """Equal values, dtypes, shapes and keys."""
    if isinstance(other, dict):
        assert isinstance(one, dict) and one.keys() == other.keys(), where
        for key in other:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(other, tuple | list):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(other, np.ndarray) and other.dtype == object:
        assert one.dtype == object and one.shape == other.shape, where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(other, np.ndarray):
        assert one.dtype == other.dtype and one.shape == other.shape, where
        np.testing.assert_array_equal(one, other, err_msg=where)
    else:
        assert one == other, where

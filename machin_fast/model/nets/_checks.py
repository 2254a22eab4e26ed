"""What arguments of networks are checked for, in one wording."""

from __future__ import annotations

from collections.abc import Sequence


def check_positive(op: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if not size >= 1:
            raise ValueError(f"{op}: {name} must be 1 or more, got {size}")


def check_sizes(op: str, name: str, sizes: Sequence[int]) -> None:
    """None at all is fine."""
    if any(not size >= 1 for size in sizes):
        raise ValueError(f"{op}: {name} must be sizes of 1 or more, got {list(sizes)}")

"""What the tests of gather_rows and write_rows_ share: columns of all kinds."""

from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

# Wide types first, so that each is aligned in a record. Of the row sizes some are moved in one
# piece, some in two that overlap, some by memcpy.
KINDS: list[tuple[torch.dtype, tuple[int, ...]]] = [
    (torch.complex64, (2,)),
    (torch.float64, (4,)),
    (torch.int64, ()),
    (torch.float32, (3,)),
    (torch.float32, (33, 2)),
    (torch.int32, ()),
    (torch.float16, (3, 5)),
    (torch.bfloat16, ()),
    (torch.int16, (1,)),
    (torch.uint8, (7, 5)),
    (torch.int8, (3,)),
    (torch.bool, ()),
    (torch.float32, (0, 2)),
]


def make_columns(
    rows: int, device: torch.device, *, packed: bool = False, seed: int = 0
) -> list[Tensor]:
    """A column of each kind; random bytes, so NaN too. ``packed``: fields of one record a row."""
    random = torch.Generator().manual_seed(seed)
    sizes = [math.prod(shape) * dtype.itemsize for dtype, shape in KINDS]
    stride = sum(sizes) // 16 * 16 + 16
    record = torch.randint(256, (rows, stride), generator=random, dtype=torch.uint8).to(device)
    columns = []
    offset = 0
    for (dtype, shape), size in zip(KINDS, sizes, strict=True):
        field = record[:, offset : offset + size]
        if dtype == torch.bool:
            field &= 1
        field = field.view(dtype) if size else torch.empty(rows, 0, dtype=dtype, device=device)
        column = field.reshape(rows, *shape) if not shape else field.unflatten(1, shape)
        columns.append(column if packed else column.clone(memory_format=torch.contiguous_format))
        offset += size
    return columns


def assert_same_bytes(got: list[Tensor], want: list[Tensor]) -> None:
    for x, y in zip(got, want, strict=True):
        assert (x.dtype, x.device, x.shape) == (y.dtype, y.device, y.shape)
        assert torch.equal(as_bytes(x), as_bytes(y))


def as_bytes(x: Tensor) -> Tensor:
    return x.reshape(-1).contiguous().view(torch.uint8)


def complaint(text: str) -> AbstractContextManager[object]:
    """The error must begin with ``text``."""
    return pytest.raises(RuntimeError, match="^" + re.escape(text))

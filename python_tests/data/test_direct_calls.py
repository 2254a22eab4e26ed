"""The library's calls past torch's dispatcher do what the ops do, and refuse the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from machin_fast import ops
from machin_fast._extension import direct_calls, library


def test_this_torch_allows_direct_calls() -> None:
    assert direct_calls


def columns(n: int) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(n)
    return (
        torch.rand(n, 4, generator=random),
        torch.randint(9, (n,), generator=random),
        torch.rand(n, 2, 3, generator=random, dtype=torch.float64) < 0.5,
    )


def test_gather_rows_is_the_op() -> None:
    stored = columns(100)
    index = torch.tensor([3, 99, 0, 3])
    out = [torch.empty((4, *x.shape[1:]), dtype=x.dtype) for x in stored]
    library.gather_rows(stored, index, out)
    for got, expected in zip(out, ops.gather_rows(list(stored), index), strict=True):
        assert torch.equal(got, expected)


def test_write_rows_is_the_op() -> None:
    stored, twin = columns(10), columns(10)
    rows = columns(4)
    library.write_rows(list(stored), rows, 8)  # wraps around
    ops.write_rows_(list(twin), list(rows), 8)
    for got, expected in zip(stored, twin, strict=True):
        assert torch.equal(got, expected)


def test_bad_arguments_are_refused_and_change_nothing() -> None:
    stored, rows = columns(10), columns(4)
    out = [torch.zeros((2, *x.shape[1:]), dtype=x.dtype) for x in stored]
    with pytest.raises(RuntimeError, match=r"gather_rows: index must be in \[0, 10\), got 10 at"):
        library.gather_rows(stored, torch.tensor([1, 10]), out)
    with pytest.raises(TypeError, match="gather_rows: columns must be a tuple or list of tensors"):
        library.gather_rows(stored[0], torch.tensor([1, 2]), out)
    with pytest.raises(TypeError, match=r"gather_rows: out must be a torch\.Tensor"):
        library.gather_rows(stored, torch.tensor([1, 2]), [None] * 3)
    with pytest.raises(RuntimeError, match=r"gather_rows: must be given 3 arguments, got 2"):
        library.gather_rows(stored, out)
    assert not any(x.any() for x in out)

    before = [x.clone() for x in stored]
    with pytest.raises(RuntimeError, match=r"write_rows_: start must be in \[0, 10\), got 10"):
        library.write_rows(stored, rows, 10)
    with pytest.raises(RuntimeError, match=r"write_rows_: rows\[1\] must"):
        library.write_rows(stored, (rows[0], rows[1][:3], rows[2]), 0)
    with pytest.raises(TypeError):
        library.write_rows(stored, rows, "0")
    assert all(map(torch.equal, stored, before))

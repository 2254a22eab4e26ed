"""Writing rows into the columns of a ring."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import no_gradient, writes_in_place


def write_rows_(columns: list[Tensor], rows: list[Tensor], start: int) -> None:
    """Writes a batch into rows start, start + 1, ... of each column; after the last comes row 0.

    Source: none, this is assignment.

    Args:
        columns: One or more, each ``[N, ...]``, of any dtype and row shape below 2 GiB a row;
            changed in place. Rows may lie apart, as fields of one record per row do, but must have
            no gaps inside.
        rows: For each column ``[n, ...]`` of its dtype and row shape, n <= N. They must not share
            memory with the columns. Fastest without gaps inside a row.
        start: In [0, N), or 0 where N = 0.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, or a number is
            out of its range. Nothing is written then.
    """
    if not columns:  # without a tensor, torch would not know which device to ask
        raise RuntimeError("write_rows_: columns must have at least 1 tensor, got 0")
    torch.ops.machin_fast.write_rows_.default(columns, rows, start)


writes_in_place("write_rows_")
no_gradient("write_rows_")

"""Fetching rows of several columns at once."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import no_gradient, register_fake, writes_in_place


def gather_rows(
    columns: list[Tensor],
    index: Tensor,
    *,
    out: list[Tensor] | None = None,
    check: bool = True,
) -> list[Tensor]:
    """``[column[index] for column in columns]`` in one call.

    On the CPU, several times faster than indexing for rows that are not in a cache; fastest where
    the columns are fields of one record per row (views of one tensor), of a cache line or few.
    Large batches use torch's threads. ``out`` spares fresh memory, which costs more than the copy.

    Source: none, this is indexing.

    Args:
        columns: One or more, each ``[N, ...]``, of any dtype and row shape below 2 GiB a row.
            Rows may lie apart, but must have no gaps inside.
        index: ``[n]``, int64, in [0, N), in any order, repeated or not.
        out: For each column a contiguous ``[n, ...]`` of its dtype to write the result into. It
            must not share memory with anything else here.
        check: Refuse indices out of range before anything is written. On CUDA this waits for the
            device. If False, rows out of range are zeros.

    Returns:
        For each column ``[n, ...]``, contiguous; ``out`` if it was given. They carry no gradient.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, or an index is
            out of range and ``check`` is True.
    """
    if out is None:
        return torch.ops.machin_fast.gather_rows.default(columns, index, check)
    torch.ops.machin_fast.gather_rows.out(columns, index, check, out)
    return out


register_fake(
    "gather_rows",
    lambda columns, index, check: [x.new_empty((index.shape[0], *x.shape[1:])) for x in columns],
)
writes_in_place("gather_rows.out")
no_gradient("gather_rows", "gather_rows.out")

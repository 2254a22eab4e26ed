"""Columns: tensors of equally many rows, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

# Rows up to this many bytes share a record: then a transition of a classic task is one or two
# cache lines, and a gather 2 to 3 times faster. From there on it gains nothing (measured).
_SMALL_ROW = 256


def new_columns(
    like: Mapping[str, Tensor], capacity: int, device: torch.device
) -> dict[str, Tensor]:
    """Allocates columns, uninitialised; the small ones as fields of one record per row.

    Args:
        like: For each column a tensor ``[n, ...]`` of its dtype and row shape.
        capacity: Number of rows.
        device: Where the columns live.

    Returns:
        For each name ``[capacity, ...]``, in the order of ``like``. Rows have no gaps inside, but
        those of small columns lie apart.
    """
    # Outside of inference mode, whatever the caller is in: autograd must be able to use them.
    with torch.inference_mode(False):
        # Large elements come first, so that each field is aligned without gaps.
        small = sorted(
            (name for name, rows in like.items() if _row_bytes(rows) <= _SMALL_ROW),
            key=lambda name: -like[name].itemsize,
        )
        fields = _new_record({name: like[name] for name in small}, capacity, device)
        return {
            name: fields[name]
            if name in fields
            else _empty(capacity, _row_bytes(rows), device)
            .view(rows.dtype)
            .view(capacity, *rows.shape[1:])
            for name, rows in like.items()
        }


def _new_record(
    like: Mapping[str, Tensor], capacity: int, device: torch.device
) -> dict[str, Tensor]:
    """Fields of one record per row, one after the other."""
    alignment = max((rows.itemsize for rows in like.values()), default=1)
    record_bytes = sum(map(_row_bytes, like.values()))
    record_bytes += -record_bytes % alignment
    record = _empty(capacity, record_bytes, device)
    fields = {}
    begin = 0
    for name, rows in like.items():
        words = record.view(rows.dtype) if record_bytes else record.new_empty(capacity, 0)
        end = begin + _row_bytes(rows)
        words = words[:, begin // rows.itemsize : end // rows.itemsize]
        fields[name] = words.view(rows.dtype).view(capacity, *rows.shape[1:])
        begin = end
    return fields


def _empty(rows: int, row_bytes: int, device: torch.device) -> Tensor:
    """Bytes, ``[rows, row_bytes]``. On the CPU numpy allocates them, as it asks for huge pages,
    which spare a random access its page walk."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty((rows, row_bytes), np.uint8))
    return torch.empty(rows, row_bytes, dtype=torch.uint8, device=device)


def _row_bytes(rows: Tensor) -> int:
    return math.prod(rows.shape[1:]) * rows.itemsize

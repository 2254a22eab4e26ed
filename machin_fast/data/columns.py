"""Columns: equally many rows of something, by name.

A column is a tensor ``[n, ...]``, or a list of n objects where rows are no numbers of one shape.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from machin_fast import ops

Column: TypeAlias = "Tensor | list[Any]"
Memory: TypeAlias = Literal["plain", "pinned", "shared"]

# Rows up to this many bytes share a record: then a transition of a classic task is one or two
# cache lines, and a gather 2 to 3 times faster. From there on it gains nothing (measured).
_SMALL_ROW = 256
# Alignment may leave gaps between records, of this share of the columns' bytes at most.
_MOST_WASTE = 0.05


def as_columns(
    op: str,
    values: Mapping[str, Any],
    device: torch.device | None,
    *,
    lists: Container[str] = (),
) -> dict[str, Column]:
    """Rows as columns: tensors as they are, arrays and numbers as tensors.

    Nested mappings become one column each, ``{"state": {"goal": x}}`` is ``state/goal``. A list
    (or an array) that cannot be a tensor, as its rows are no numbers or differ in shape, stays a
    list.

    Args:
        op: Who asks, for errors.
        values: For each name ``[n, ...]``, or a mapping of such.
        device: Where tensors shall be. None: where they are.
        lists: Names of columns that are known to be lists: theirs stay some, even if these rows
            happen to be numbers of one shape.

    Returns:
        For each name the column.

    Raises:
        TypeError: Something is no tensor, array or list.
        ValueError: Something is a single value, or a name is there twice.
    """
    columns: dict[str, Column] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            nested = {f"{name}/{key}": inner for key, inner in value.items()}
            found = as_columns(op, nested, device, lists=lists)
        elif name in lists and isinstance(value, list | tuple):
            found = {name: list(value)}
        else:
            found = {name: _as_column(op, name, value, device)}
        for key, column in found.items():
            if key in columns:
                raise ValueError(f"{op}: {key} must be there once, got it nested and flat")
            columns[key] = column
    return columns


def _as_column(op: str, name: str, value: Any, device: torch.device | None) -> Column:
    if not isinstance(value, Tensor):
        if isinstance(value, np.ndarray) and value.dtype == object:
            value = list(value)
        try:
            value = _as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            if isinstance(value, Sequence) and not isinstance(value, str | bytes):
                return list(value)
            raise TypeError(
                f"{op}: {name} must be a tensor, an array or a list, "
                f"got {type(value).__name__} ({error})"
            ) from error
    if not value.dim():
        raise ValueError(f"{op}: {name} must be [n, ...], got a single value")
    value = value.detach()
    return value if device is None else value.to(device)


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        return torch.stack(tuple(value))
    if isinstance(value, list | tuple) and value and isinstance(value[0], np.ndarray | np.generic):
        value = np.asarray(value)  # torch, row by row, is 10 to 20 times slower
    return torch.as_tensor(value)


def common_length(op: str, columns: Mapping[str, Column]) -> int:
    """The number of rows that all columns have.

    Raises:
        ValueError: They differ, or there is no column.
    """
    if not columns:
        raise ValueError(f"{op}: columns must be at least 1, got 0")
    first, *others = columns
    n = len(columns[first])
    for name in others:
        if len(columns[name]) != n:
            raise ValueError(
                f"{op}: {name} must have {n} rows like {first}, got {len(columns[name])}"
            )
    return n


def check_same_columns(op: str, rows: Mapping[str, Column], columns: Mapping[str, Column]) -> None:
    """Refuses rows that do not belong into ``columns``.

    Raises:
        ValueError: Names or row shapes differ.
        TypeError: Dtypes differ, or one is a list and the other a tensor.
    """
    if rows.keys() != columns.keys():
        raise ValueError(
            f"{op}: columns must be {', '.join(columns)}, got {', '.join(rows) or 'none'}"
        )
    for name, column in columns.items():
        new = rows[name]
        if isinstance(column, list) or isinstance(new, list):
            if type(column) is not type(new):
                kinds = ("a list" if isinstance(x, list) else "a tensor" for x in (column, new))
                raise TypeError(f"{op}: {name} must be {next(kinds)}, got {next(kinds)}")
        elif new.dtype != column.dtype:
            raise TypeError(f"{op}: {name} must be {column.dtype}, got {new.dtype}")
        elif new.shape[1:] != column.shape[1:]:
            raise ValueError(
                f"{op}: {name} must have rows of shape {list(column.shape[1:])}, "
                f"got {list(new.shape[1:])}"
            )


def take_rows(columns: Mapping[str, Column], index: Tensor) -> dict[str, Column]:
    """Fetches rows of all columns.

    Args:
        columns: On one device.
        index: ``[n]``, int64, of rows.

    Returns:
        For each name ``[n, ...]``, or a list of n objects, in memory of their own.

    Raises:
        RuntimeError: An index is out of range.
    """
    tensors = {name: x for name, x in columns.items() if isinstance(x, Tensor)}
    found: dict[str, Column] = {}
    if tensors:
        device = next(iter(tensors.values())).device
        found.update(
            zip(tensors, ops.gather_rows(list(tensors.values()), index.to(device)), strict=True)
        )
    if len(tensors) < len(columns):
        places = index.tolist()
        for name, column in columns.items():
            if isinstance(column, list):
                found[name] = [column[place] for place in places]
    return {name: found[name] for name in columns}


def row_bytes(columns: Iterable[Column]) -> int:
    """Bytes of one row, of tensors alone."""
    return sum(_row_bytes(column) for column in columns if isinstance(column, Tensor))


def new_columns(
    like: Mapping[str, Tensor],
    capacity: int,
    device: torch.device,
    memory: Memory = "plain",
) -> dict[str, Tensor]:
    """Allocates columns, uninitialised; small ones as fields of one record per row.

    Args:
        like: For each column a tensor ``[n, ...]`` of its dtype and row shape.
        capacity: Number of rows.
        device: Where the columns live.
        memory: Of the CPU: plain, pinned (for fast copies to a GPU), or shared by processes.

    Returns:
        For each name ``[capacity, ...]``, in the order of ``like``. Rows have no gaps inside, but
        those of small columns lie apart.
    """
    # Outside of inference mode, whatever the caller is in: autograd must be able to use them.
    with torch.inference_mode(False):
        columns = {}
        for record in _records(like):
            columns.update(_new_record(record, capacity, device, memory))
        return {name: columns[name] for name in like}


def empty_rows(like: Tensor, n: int) -> Tensor:
    """Uninitialised memory for n rows of a column, contiguous, on its device."""
    if not _row_bytes(like):
        return like.new_empty((n, *like.shape[1:]))
    empty = _empty(n, _row_bytes(like), like.device, "plain")
    return empty.view(like.dtype).view(n, *like.shape[1:])


def _records(like: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Which columns share a record."""
    # Large elements come first, so that each field is aligned without gaps.
    small = sorted(
        (name for name, rows in like.items() if _row_bytes(rows) <= _SMALL_ROW),
        key=lambda name: -like[name].itemsize,
    )
    spare = _MOST_WASTE * row_bytes(like.values())
    records = []
    while small:
        count = len(small)
        while (gap := _gap([like[name] for name in small[:count]])) > spare:
            count -= 1  # one alone has no gap
        spare -= gap
        records.append({name: like[name] for name in small[:count]})
        del small[:count]
    return records + [{name: rows} for name, rows in like.items() if _row_bytes(rows) > _SMALL_ROW]


def _gap(fields: Sequence[Tensor]) -> int:
    """Bytes to the next record, for its first field to be aligned."""
    return -row_bytes(fields) % max(field.itemsize for field in fields)


def _new_record(
    like: Mapping[str, Tensor], capacity: int, device: torch.device, memory: Memory
) -> dict[str, Tensor]:
    """Fields of one record per row, one after the other."""
    fields = list(like.values())
    record_bytes = row_bytes(fields) + _gap(fields)
    if not record_bytes:
        return {
            name: torch.empty((capacity, *rows.shape[1:]), dtype=rows.dtype, device=device)
            for name, rows in like.items()
        }
    record = _empty(capacity, record_bytes, device, memory)
    columns = {}
    begin = 0
    for name, rows in like.items():
        end = begin + _row_bytes(rows)
        field = record.view(rows.dtype)[:, begin // rows.itemsize : end // rows.itemsize]
        columns[name] = field.view(capacity, *rows.shape[1:])
        begin = end
    return columns


def _empty(rows: int, row_bytes: int, device: torch.device, memory: Memory) -> Tensor:
    """Bytes, ``[rows, row_bytes]``. Plain ones are allocated by numpy, as it asks for huge pages,
    which spare a random access its page walk."""
    if device.type == "cpu" and memory == "plain":
        return torch.from_numpy(np.empty((rows, row_bytes), np.uint8))
    pinned = memory == "pinned"
    empty = torch.empty(rows, row_bytes, dtype=torch.uint8, device=device, pin_memory=pinned)
    return empty.share_memory_() if memory == "shared" else empty


def _row_bytes(rows: Tensor) -> int:
    return math.prod(rows.shape[1:]) * rows.itemsize

"""Columns of whatever users have, and the table that holds them."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from machin_fast.data.columns import (
    as_columns,
    check_same_columns,
    common_length,
    new_columns,
    row_bytes,
    take_rows,
)
from machin_fast.data.table import Table

CPU = torch.device("cpu")
DTYPES = [
    torch.bool, torch.uint8, torch.int16, torch.bfloat16, torch.int32, torch.float32,
    torch.int64, torch.float64, torch.complex64, torch.complex128,
]  # fmt: skip


# -- what becomes a column ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (torch.zeros(3, 2), torch.float32, (3, 2)),
        (np.zeros((3, 2)), torch.float64, (3, 2)),
        (np.zeros((3, 2), np.uint8)[::-1].copy(), torch.uint8, (3, 2)),
        ([1, 2, 3], torch.int64, (3,)),
        ([1.0, 2], torch.float32, (2,)),
        ((True, False), torch.bool, (2,)),
        ([[1], [2]], torch.int64, (2, 1)),
        ([np.zeros(4, np.float32)] * 3, torch.float32, (3, 4)),
        ([np.int8(3)] * 3, torch.int8, (3,)),
        ([torch.zeros(4, dtype=torch.int16)] * 3, torch.int16, (3, 4)),
        ([torch.tensor(1.0)] * 2, torch.float32, (2,)),
        (range(4), torch.int64, (4,)),
        ([], torch.float32, (0,)),
        (np.zeros((0, 3)), torch.float64, (0, 3)),
    ],
)
def test_numbers_of_one_shape_become_a_tensor(value, dtype, shape, device):
    column = as_columns("test", {"x": value}, device)["x"]
    assert (column.dtype, column.shape, column.device.type) == (dtype, shape, device.type)


@pytest.mark.parametrize(
    "rows",
    [
        ["a", "b"],
        [None, 1],
        [{"a": 1}, {}],
        [[1, 2], [3]],
        [torch.zeros(2), torch.zeros(3)],
        [np.zeros(2), np.zeros((2, 2))],
        [object(), object()],
        [1, "a"],
        [2**70, 1],
    ],
)
def test_other_rows_stay_a_list(rows):
    assert as_columns("test", {"x": rows}, CPU)["x"] is not rows
    for given_rows in (rows, tuple(rows)):
        column = as_columns("test", {"x": given_rows}, CPU)["x"]
        assert type(column) is list
        assert all(got is row for got, row in zip(column, rows, strict=True))


def test_an_array_of_objects_is_taken_as_its_rows():
    numbers = np.array([1, 2, 3], dtype=object)
    assert torch.equal(as_columns("test", {"x": numbers}, CPU)["x"], torch.tensor([1, 2, 3]))
    objects = np.array([{"a": 1}, None], dtype=object)
    assert as_columns("test", {"x": objects}, CPU)["x"] == [{"a": 1}, None]


def test_a_column_that_is_known_to_be_a_list_stays_one():
    rows = {"x": [[1, 2], [3, 4]], "y": {"z": (1, 2)}, "w": [1, 2]}
    columns = as_columns("test", rows, CPU, lists=("x", "y/z"))
    assert columns["x"] == [[1, 2], [3, 4]] and columns["y/z"] == [1, 2]
    assert isinstance(columns["w"], Tensor)


def test_mappings_become_columns_of_their_own_in_order():
    columns = as_columns(
        "test", {"state": {"goal": [1], "arm": {"joint": [2]}}, "a": [3], "empty": {}}, CPU
    )
    assert list(columns) == ["state/goal", "state/arm/joint", "a"]


@pytest.mark.parametrize(
    "values",
    [
        {"state": {"goal": [1]}, "state/goal": [2]},
        {"state/goal": [2], "state": {"goal": [1]}},
        {"state": {"a": {"b": [1]}, "a/b": [2]}},
    ],
)
def test_a_name_that_is_there_nested_and_flat_is_refused(values):
    message = "test: state/(goal|a/b) must be there once, got it nested and flat"
    with pytest.raises(ValueError, match=message):
        as_columns("test", values, CPU)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (3.0, ValueError, r"test: x must be \[n, ...\], got a single value"),
        (torch.tensor(3), ValueError, r"test: x must be \[n, ...\], got a single value"),
        (np.float32(3), ValueError, r"test: x must be \[n, ...\], got a single value"),
        ("text", TypeError, r"test: x must be a tensor, an array or a list, got str \("),
        (b"text", TypeError, r"test: x must be a tensor, an array or a list, got bytes \("),
        (None, TypeError, r"test: x must be a tensor, an array or a list, got NoneType \("),
        ({1, 2}, TypeError, r"test: x must be a tensor, an array or a list, got set \("),
        (np.array(["a"]), TypeError, r"test: x must be a tensor, an array or a list, got ndarr"),
    ],
)
def test_what_is_no_column_is_refused_by_name(value, error, message):
    with pytest.raises(error, match=message):
        as_columns("test", {"good": [1], "x": value}, CPU)


def test_columns_carry_no_gradient_and_views_are_not_copied():
    value = torch.ones(4, 2, requires_grad=True)
    columns = as_columns("test", {"x": value * 2, "y": value[::2]}, None)
    assert not columns["x"].requires_grad
    assert columns["y"].data_ptr() == value.data_ptr()


def test_lengths_that_differ_are_refused():
    assert common_length("test", {"x": torch.zeros(3, 2), "y": [1, 2, 3]}) == 3
    with pytest.raises(ValueError, match="test: y must have 3 rows like x, got 2"):
        common_length("test", {"x": torch.zeros(3), "y": ["a", "b"]})
    with pytest.raises(ValueError, match="test: columns must be at least 1, got 0"):
        common_length("test", {})


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ({}, ValueError, "test: columns must be x, y, got none"),
        ({"y": ["a"]}, ValueError, "test: columns must be x, y, got y$"),
        ({"x": torch.zeros(1, 2).double(), "y": ["a"]}, TypeError,
         "test: x must be torch.float32, got torch.float64"),
        ({"x": torch.zeros(1, 2, 1), "y": ["a"]}, ValueError,
         r"test: x must have rows of shape \[2\], got \[2, 1\]"),
        ({"x": [1], "y": ["a"]}, TypeError, "test: x must be a tensor, got a list"),
        ({"x": torch.zeros(1, 2), "y": torch.zeros(1)}, TypeError,
         "test: y must be a list, got a tensor"),
    ],
)  # fmt: skip
def test_rows_that_do_not_belong_are_refused(rows, error, message):
    columns = {"x": torch.zeros(9, 2), "y": [None] * 9}
    with pytest.raises(error, match=message):
        check_same_columns("test", rows, columns)
    table = Table(9, CPU)
    table.check("test", rows)  # any will do while there is none
    table.create(columns)
    with pytest.raises(error, match=message):
        table.check("test", rows)
    table.check("test", {"y": ["a", "b"], "x": torch.zeros(2, 2)})


def test_rows_are_taken_from_tensors_and_lists(device):
    columns = {"x": torch.arange(6, device=device).view(3, 2), "y": ["a", "b", "c"]}
    got = take_rows(columns, torch.tensor([2, 0, 2]))
    assert got["x"].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert got["y"] == ["c", "a", "c"]
    assert take_rows({"y": ["a", "b"]}, torch.tensor([1])) == {"y": ["b"]}


# -- memory of columns -------------------------------------------------------------------------


def address(column: Tensor) -> tuple[int, int]:
    """Of the first row, and the way to the next."""
    step = column.stride(0) * column.itemsize if column.dim() else 0
    return column.data_ptr(), step


ROW_SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@settings(max_examples=200)
@given(
    rows=st.lists(st.tuples(st.sampled_from(DTYPES), ROW_SHAPES), max_size=8),
    capacity=st.integers(1, 9),
)
def test_columns_lie_apart_aligned_and_without_waste(rows, capacity):
    like = {f"c{i}": torch.empty((0, *shape), dtype=dtype) for i, (dtype, shape) in enumerate(rows)}
    columns = new_columns(like, capacity, CPU)
    assert list(columns) == list(like)
    for name, column in columns.items():
        assert column.shape == (capacity, *like[name].shape[1:])
        assert column.dtype == like[name].dtype
        assert column[0].is_contiguous()
        if column.numel():
            assert all(at % column.itemsize == 0 for at in address(column))
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in columns.values()}
    needed = capacity * row_bytes(columns.values())
    assert needed <= sum(x.nbytes() for x in storages.values()) <= 1.05 * needed
    # Each byte belongs to one column: what is written to one is seen in no other.
    values = [i % 2 if x.dtype == torch.bool else i for i, x in enumerate(columns.values())]
    for value, column in zip(values, columns.values(), strict=True):
        column.fill_(value)
    for value, column in zip(values, columns.values(), strict=True):
        assert (column == value).all()


def test_small_rows_share_a_record_and_large_ones_do_not():
    like = {
        "flag": torch.empty(1, dtype=torch.bool),
        "image": torch.empty(1, 257, dtype=torch.uint8),
        "small": torch.empty(1, 31, 2, dtype=torch.float32),
        "number": torch.empty(1, dtype=torch.int64),
        "long": torch.empty(1, 256, dtype=torch.uint8),
    }
    columns = new_columns(like, 10, CPU)
    first = columns["number"].data_ptr()
    assert [columns[name].data_ptr() - first for name in ("small", "flag", "long")] == [8, 256, 257]
    assert {address(columns[name])[1] for name in ("number", "small", "flag")} == {520}
    assert address(columns["image"])[1] == 257


def test_columns_made_in_inference_mode_serve_autograd():
    with torch.inference_mode():
        column = new_columns({"x": torch.zeros(1, 2)}, 4, CPU)["x"]
    assert not column.is_inference()


def test_shared_memory_is_shared():
    columns = new_columns({"x": torch.zeros(1), "y": torch.zeros(1, 300)}, 4, CPU, "shared")
    assert all(column.is_shared() for column in columns.values())
    assert not new_columns({"x": torch.zeros(1)}, 4, CPU)["x"].is_shared()


# -- the table ---------------------------------------------------------------------------------


def rows_of(first: int, n: int, device: torch.device) -> dict[str, Any]:
    number = torch.arange(first, first + n, device=device)
    return {
        "number": number,
        "tag": [f"row {first + i}" for i in range(n)],
        "wide": number[:, None].to(torch.uint8).expand(n, 300),
        "narrow": number[:, None].float() + torch.tensor([0.0, 0.5], device=device),
        "nothing": torch.empty(n, 0, device=device),
    }


@pytest.mark.parametrize("n", [0, 1, 3, 7])
@pytest.mark.parametrize("start", range(7))
def test_rows_are_written_around_the_end(start, n, device):
    table = Table(7, device)
    table.write(rows_of(100, 7, device), 0)
    table.write(rows_of(200, n, device), start)
    number = [100 + slot for slot in range(7)]
    for i in range(n):
        number[(start + i) % 7] = 200 + i
    slots = torch.tensor([6, 0, 0, 3, 1, 2, 5, 4], device=device)
    expected = {
        name: [rows_of(number[slot], 1, device)[name][0] for slot in slots.tolist()]
        for name in table.columns
    }
    found = table.read(slots)
    assert list(found) == list(expected) == ["number", "tag", "wide", "narrow", "nothing"]
    assert found["tag"] == expected["tag"]
    assert len(table.lists["tag"]) == 7
    for name in table.tensors:
        assert found[name].is_contiguous()
        assert torch.equal(found[name], torch.stack(expected[name])), name


def test_rows_are_copied_whatever_their_strides(device):
    table = Table(4, device)
    state = torch.arange(24.0, device=device).view(3, 2, 4).transpose(1, 2)
    table.write({"state": state}, 0)
    table.write({"state": state[::2]}, 3)
    kept = state.clone()
    state.fill_(-1)
    expected = torch.stack([kept[2], kept[1], kept[2], kept[0]])
    assert torch.equal(table.columns["state"], expected)


def test_reading_writes_where_it_is_told(device):
    table = Table(4, device)
    table.write({"x": torch.arange(4.0, device=device), "y": list("abcd")}, 0)
    out = {"x": torch.empty(3, device=device)}
    slots = torch.tensor([3, 1, 3], device=device)
    found = table.read(slots, out)
    assert found["x"] is out["x"]
    assert found["x"].tolist() == [3, 1, 3] and found["y"] == ["d", "b", "d"]
    if device.type == "cpu":
        with pytest.raises(RuntimeError, match=r"index must be in \[0, 4\), got 4 at position 1"):
            table.read(torch.tensor([0, 4]))


def test_columns_of_lists_alone_are_fine():
    table = Table(3, CPU)
    table.write({"x": ["a", "b"]}, 2)
    assert table.columns["x"] == ["b", None, "a"]
    assert table.read(torch.tensor([2, 0]))["x"] == ["a", "b"]
    assert table.nbytes() == 0 and table.tensors == {}


def test_memory_of_the_table_itself_cannot_be_written_into_it():
    table = Table(4, CPU)
    table.write({"x": torch.arange(4.0), "tag": list("abcd")}, 0)
    with pytest.raises(RuntimeError, match="must not share memory"):
        table.write({"x": table.columns["x"][:2], "tag": ["e", "f"]}, 1)
    assert table.columns["x"].tolist() == [0, 1, 2, 3]
    assert table.columns["tag"] == list("abcd")


def test_a_column_of_tensors_may_become_one_of_objects():
    table = Table(4, CPU)
    table.write({"x": torch.arange(8.0).view(4, 2), "y": torch.arange(4)}, 0)
    table.to_list("x")
    assert list(table.columns) == ["x", "y"]
    assert "x" in table.lists and "x" not in table.tensors
    assert [row.tolist() for row in table.columns["x"]] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    table.write({"x": [torch.zeros(3)], "y": torch.tensor([9])}, 1)
    assert table.read(torch.tensor([1]))["x"][0].shape == (3,)


@pytest.mark.parametrize(
    ("shapes", "bytes_of_a_row"), [([()], 4), ([(3,), ()], 16), ([(100,), (3,)], 412), ([(0,)], 0)]
)
def test_bytes_are_those_of_the_memory(shapes, bytes_of_a_row):
    table = Table(50, CPU)
    assert table.nbytes() == 0
    rows = {f"c{i}": torch.zeros(2, *shape) for i, shape in enumerate(shapes)}
    table.create({**rows, "tag": ["a", "b"]})
    assert table.nbytes() == 50 * bytes_of_a_row == 50 * row_bytes(table.columns.values())
    assert math.prod(table.columns["c0"].shape) == 50 * math.prod(shapes[0])

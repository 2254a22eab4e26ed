from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from machin_fast.ops import gather_rows, write_rows_
from ops.columns import assert_same_bytes, complaint, make_columns

OPS = torch.ops.machin_fast


def by_hand(columns: list[Tensor], rows: list[Tensor], start: int) -> list[Tensor]:
    """Copies of the columns with the rows in them."""
    written = [column.clone(memory_format=torch.contiguous_format) for column in columns]
    for column, new in zip(written, rows, strict=True):
        for i, row in enumerate(new):
            column[(start + i) % len(column)] = row
    return written


# -- results


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("n", [0, 1, 7, 64, 65, 1000])
def test_rows_go_round_the_ring(n: int, packed: bool, device: torch.device) -> None:
    rows = make_columns(n, device, seed=1)
    for capacity in (max(n, 1), n + 10):
        for start in {0, capacity // 2, capacity - 1}:
            columns = make_columns(capacity, device, packed=packed)
            want = by_hand(columns, rows, start)
            write_rows_(columns, rows, start)
            assert_same_bytes(columns, want)


# 3 MB and more: these run on several threads, if torch has them.
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("n", "width"), [(20_000, 3), (3000, 376), (200, 28_224)])
def test_large_batches_go_round_the_ring(
    n: int, width: int, packed: bool, device: torch.device
) -> None:
    table = torch.rand(n + 5, width + 1).to(device)
    columns = [table[:, :width], table[:, width]]
    if not packed:
        columns = [x.contiguous() for x in columns]
    rows = [torch.rand(n, width).to(device), torch.rand(n).to(device)]
    start = n // 3
    place = (torch.arange(n, device=device) + start) % (n + 5)
    want = [column.clone().index_copy(0, place, x) for column, x in zip(columns, rows, strict=True)]
    write_rows_(columns, rows, start)
    assert_same_bytes(columns, want)


def test_what_lies_between_rows_is_left_alone(device: torch.device) -> None:
    table = torch.zeros(6, 4, 5, device=device)
    write_rows_([table[::2, 1, 1:4]], [torch.ones(2, 3, device=device)], 2)
    want = torch.zeros_like(table)
    want[4, 1, 1:4] = want[0, 1, 1:4] = 1
    assert torch.equal(table, want)


def test_rows_may_lie_apart_and_have_gaps(device: torch.device) -> None:
    source = torch.rand(7, 6, 5).to(device)
    rows = [
        source[:, 0],
        source[:, :, 2],
        source.transpose(1, 2),
        source[0, 0, 0].expand(7),
        source[3, :, :1].expand(7, 6, 5),
    ]
    columns = [torch.zeros(9, *x.shape[1:], device=device) for x in rows]
    want = by_hand(columns, rows, 5)
    write_rows_(columns, rows, 5)
    assert_same_bytes(columns, want)


def test_columns_may_be_many(device: torch.device) -> None:
    columns = list(torch.rand(100, 30, 2).to(device))
    rows = list(torch.rand(100, 9, 2).to(device))
    want = by_hand(columns, rows, 25)
    write_rows_(columns, rows, 25)
    assert_same_bytes(columns, want)


def test_a_ring_without_rows_takes_none(device: torch.device) -> None:
    columns = make_columns(0, device)
    write_rows_(columns, make_columns(0, device), 0)
    with complaint("write_rows_: start must be in [0, 0), got 1"):
        write_rows_(columns, make_columns(0, device), 1)


@settings(max_examples=50)
@given(
    st.integers(1, 9),
    st.lists(st.integers(0, 9), max_size=8),
    st.booleans(),
)
def test_any_history_equals_a_list(capacity: int, batches: list[int], packed: bool) -> None:
    record = torch.full((capacity, 3), -1.0)
    columns = [record[:, :2], record[:, 2]]
    if not packed:
        columns = [x.clone() for x in columns]
    ring = [-1.0] * capacity
    count = 0
    for n in batches:
        n = min(n, capacity)
        new = torch.arange(count, count + n, dtype=torch.float32)
        write_rows_(columns, [new[:, None].expand(n, 2), new], count % capacity)
        for value in new.tolist():
            ring[count % capacity] = value
            count += 1
        everything = torch.arange(capacity)
        pair, single = gather_rows(columns, everything)
        assert single.tolist() == ring
        assert pair.tolist() == [[value, value] for value in ring]


# -- refusals


def refused(text: str, columns: list[Tensor], rows: list[Tensor], start: int = 0) -> None:
    before = [x.clone() for x in columns]
    with complaint(f"write_rows_: {text}"):
        write_rows_(columns, rows, start)
    assert_same_bytes(columns, before)


def test_a_wrong_column_is_named(device: torch.device) -> None:
    a, b = torch.rand(4, 3, 2).to(device), torch.rand(4).to(device)
    rows = [torch.rand(2, 3, 2).to(device), torch.rand(2).to(device)]
    refused("columns must have at least 1 tensor, got 0", [], [])
    refused("columns must have at least 1 tensor, got 0", [], rows)
    refused("columns[1] must have 4 rows, got 3", [a, b[:3]], rows)
    refused("columns[1] must have rows, got shape []", [a, b[0]], rows)
    text = "columns[0] must have no gaps inside a row, got strides [6, 1, 2]"
    refused(text, [a.transpose(1, 2), b], [rows[0].transpose(1, 2), rows[1]])
    text = "columns[1] must have rows that share no memory, got strides "
    refused(text + "[0]", [a, b[:1].expand(4)], rows)
    windows = torch.rand(9).to(device).unfold(0, 3, 2)
    refused(text + "[2, 1]", [a, windows], [rows[0], torch.rand(2, 3).to(device)])


def test_wrong_rows_are_named(device: torch.device) -> None:
    columns = [torch.rand(4, 3).to(device), torch.rand(4).to(device)]
    good, other = torch.rand(2, 3).to(device), torch.rand(2).to(device)
    refused("rows must have 2 tensors, one per column, got 0", columns, [])
    refused("rows must have 2 tensors, one per column, got 1", columns, [good])
    refused("rows must have 2 tensors, one per column, got 3", columns, [good, other, other])
    refused("rows[0] must have shape [2, 3], got [2, 4]", columns, [good.new_ones(2, 4), other])
    refused("rows[1] must have shape [2], got [1]", columns, [good, other[:1]])
    refused("rows[1] must have shape [2], got [2, 1]", columns, [good, other[:, None]])
    refused("rows[0] must have shape [0, 3], got []", columns, [other[0], other])
    refused("rows[1] must be float32, got int64", columns, [good, other.long()])
    refused("rows[1] must be float32, got BFloat16", columns, [good, other.bfloat16()])
    five = [torch.rand(5, 3).to(device), torch.rand(5).to(device)]
    refused("rows[0] must have at most 4 rows, got 5", columns, five)


@pytest.mark.parametrize("start", [4, -1, 2**63 - 1, -(2**63)])
def test_a_start_out_of_range_is_named(start: int, device: torch.device) -> None:
    columns, rows = [torch.rand(4).to(device)], [torch.rand(2).to(device)]
    refused(f"start must be in [0, 4), got {start}", columns, rows, start)


def test_memory_is_not_shared_with_columns(device: torch.device) -> None:
    table = torch.rand(8, 3).to(device)
    columns = [table[:4], torch.rand(4).to(device)]
    text = "must not share memory with"
    refused(f"rows[0] {text} columns[0]", columns, [table[3:5], columns[1].new_ones(2)])
    refused(f"rows[1] {text} columns[0]", columns, [table[6:], table[0, :2]])
    write_rows_(columns, [table[4:], columns[1].new_ones(4)], 0)
    assert torch.equal(table[:4], table[4:])


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_tensors_of_two_devices_are_refused(device: torch.device) -> None:
    a, there = torch.rand(4), torch.rand(4).to(device)
    refused("columns[1] must be on cuda:0, got cpu", [there, a], [there[:2], a[:2]])
    refused("rows[0] must be on cuda:0, got cpu", [there], [torch.rand(2)])
    refused("rows[0] must be on cpu, got cuda:0", [a], [torch.rand(2).to(device)])


# -- torch


def test_registration_is_sound(device: torch.device) -> None:
    table = torch.rand(9, 4).to(device)
    rows = [torch.rand(5, 3).to(device), torch.rand(5).to(device)]
    for columns in ([table[:, :3], table[:, 3]], [torch.rand(9, 3).to(device), table[:, 0]]):
        torch.library.opcheck(OPS.write_rows_.default, (columns, rows, 7))


@pytest.mark.compile
def test_compiles_into_one_graph(device: torch.device) -> None:
    @torch.compile(fullgraph=True)
    def compiled(table: Tensor, rows: list[Tensor], start: int) -> Tensor:
        # Two views of one tensor, which is read before and after.
        before = 2 * table
        write_rows_([table[:, :3], table[:, 3]], [rows[0] + 1, rows[1]], start)
        return before + table

    torch.compiler.reset()
    for n, start in ((2, 0), (5, 7)):
        table = torch.rand(9, 4).to(device)
        rows = [torch.rand(n, 3).to(device), torch.rand(n).to(device)]
        before = table.clone()
        parts = by_hand([table[:, :3], table[:, 3]], [rows[0] + 1, rows[1]], start)
        want = torch.cat([parts[0], parts[1][:, None]], 1)
        torch.testing.assert_close(compiled(table, rows, start), 2 * before + want)
        torch.testing.assert_close(table, want)

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from machin_fast.ops import gather_rows
from ops.columns import assert_same_bytes, complaint, make_columns

OPS = torch.ops.machin_fast


def random_index(n: int, rows: int, device: torch.device) -> Tensor:
    return torch.randint(rows, (n,), generator=torch.Generator().manual_seed(n)).to(device)


def by_torch(columns: list[Tensor], index: Tensor) -> list[Tensor]:
    return [column[index] for column in columns]


def untouched(columns: list[Tensor], n: int) -> list[Tensor]:
    return [torch.full((n, *x.shape[1:]), 1, dtype=x.dtype, device=x.device) for x in columns]


# -- results


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("n", [0, 1, 7, 64, 65, 1000])
def test_equals_indexing(n: int, packed: bool, device: torch.device) -> None:
    columns = make_columns(200, device, packed=packed)
    index = random_index(n, 200, device)
    want = by_torch(columns, index)
    for check in (True, False):
        got = gather_rows(columns, index, check=check)
        assert_same_bytes(got, want)
        assert all(x.is_contiguous() for x in got)
        out = untouched(columns, n)
        assert gather_rows(columns, index, out=out, check=check) is out
        assert_same_bytes(out, want)


# 3 MB and more: these run on several threads, if torch has them.
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("n", "width"), [(20_000, 3), (3000, 376), (200, 28_224)])
def test_large_batches_equal_indexing(
    n: int, width: int, packed: bool, device: torch.device
) -> None:
    table = torch.rand(500, width + 1).to(device)
    columns = [table[:, :width], table[:, width]]
    if not packed:
        columns = [x.contiguous() for x in columns]
    index = random_index(n, 500, device)
    assert_same_bytes(gather_rows(columns, index), by_torch(columns, index))


def test_rows_may_lie_apart_overlap_or_be_one_and_the_same(device: torch.device) -> None:
    table = torch.rand(50, 4, 3).to(device)
    columns = [table[::5], table[:10, 1], table[0, 0].expand(10, 3), table[:10, 2:]]
    columns.append(torch.as_strided(table, (10, 6), (1, 1)))
    index = random_index(30, 10, device)
    assert_same_bytes(gather_rows(columns, index), by_torch(columns, index))


def test_index_may_lie_apart(device: torch.device) -> None:
    columns = make_columns(20, device)
    index = random_index(60, 20, device).view(20, 3)[:, 1]
    assert_same_bytes(gather_rows(columns, index), by_torch(columns, index))
    same = index[:1].expand(5)
    assert_same_bytes(gather_rows(columns, same), by_torch(columns, same))


def test_fields_of_a_record_may_come_in_any_order(device: torch.device) -> None:
    columns = make_columns(100, device, packed=True)
    order = torch.randperm(len(columns), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = [columns[j] for j in order] + columns[:2]
    index = random_index(130, 100, device)
    assert_same_bytes(gather_rows(shuffled, index), by_torch(shuffled, index))


def test_columns_may_be_many(device: torch.device) -> None:
    columns = list(torch.rand(100, 30, 2).to(device))
    index = random_index(9, 30, device)
    assert_same_bytes(gather_rows(columns, index), by_torch(columns, index))


def test_a_table_without_rows_gives_an_empty_batch(device: torch.device) -> None:
    columns = make_columns(0, device)
    index = torch.empty(0, dtype=torch.int64, device=device)
    assert_same_bytes(gather_rows(columns, index), by_torch(columns, index))
    with complaint("gather_rows: index must be in [0, 0), got 0 at position 0"):
        gather_rows(columns, torch.zeros(1, dtype=torch.int64, device=device))


@pytest.mark.parametrize("packed", [False, True])
def test_without_check_rows_that_do_not_exist_are_zeros(packed: bool, device: torch.device) -> None:
    columns = make_columns(6, device, packed=packed)
    index = torch.tensor([5, 6, 0, -1, 2**63 - 1, 3, -(2**63)], device=device)
    got = gather_rows(columns, index, check=False)
    want = by_torch(columns, index.clamp(0, 5))
    for x in want:
        x[(index < 0) | (index > 5)] = 0
    assert_same_bytes(got, want)
    empty = gather_rows(make_columns(0, device), index, check=False)
    assert_same_bytes(empty, [torch.zeros_like(x) for x in want])


# -- refusals


@pytest.mark.parametrize("n", [5, 3000])
@pytest.mark.parametrize("bad", [10, -1, 2**63 - 1, -(2**63)])
def test_an_index_out_of_range_is_named_and_nothing_is_written(
    bad: int, n: int, device: torch.device
) -> None:
    columns = make_columns(10, device)
    index = random_index(n, 10, device)
    index[[3, n - 1]] = bad
    out = untouched(columns, n)
    with complaint(f"gather_rows: index must be in [0, 10), got {bad} at position 3"):
        gather_rows(columns, index, out=out)
    assert_same_bytes(out, untouched(columns, n))
    with complaint(f"gather_rows: index must be in [0, 10), got {bad} at position 3"):
        gather_rows(columns, torch.stack([index, index], 1)[:, 0])


def refused(text: str, columns: list[Tensor], index: Tensor, out: list[Tensor] | None) -> None:
    before = None if out is None else [x.clone() for x in out]
    with complaint(f"gather_rows: {text}"):
        gather_rows(columns, index, out=out)
    if out is not None and before is not None:
        assert_same_bytes(out, before)


def test_a_wrong_column_is_named(device: torch.device) -> None:
    a, b = torch.rand(4, 3, 2).to(device), torch.rand(4).to(device)
    index = torch.tensor([0, 1], device=device)
    refused("columns must have at least 1 tensor, got 0", [], index, None)
    refused("columns must have at least 1 tensor, got 0", [], index, [])
    refused("columns[1] must have 4 rows, got 3", [a, b[:3]], index, None)
    refused("columns[1] must have rows, got shape []", [a, b[0]], index, None)
    text = "columns[0] must have no gaps inside a row, got strides [6, 1, 2]"
    refused(text, [a.transpose(1, 2), b], index, None)


def test_a_wrong_index_is_named(device: torch.device) -> None:
    a = torch.rand(4, 3).to(device)
    index = torch.tensor([0, 1], device=device)
    refused("index must be int64, got int32", [a], index.int(), None)
    refused("index must be int64, got float32", [a], index.float(), [torch.ones_like(a)])
    refused("index must be [n], got shape [1, 2]", [a], index[None], None)
    refused("index must be [n], got shape []", [a], index[0], None)


def test_a_wrong_out_is_named(device: torch.device) -> None:
    columns = [torch.rand(4, 3).to(device), torch.rand(4).to(device)]
    index = torch.tensor([0, 1], device=device)

    def refuse(text: str, *out: Tensor) -> None:
        refused(text, columns, index, list(out))

    good, other = untouched(columns, 2)
    refuse("out must have 2 tensors, one per column, got 1", good)
    refuse("out must have 2 tensors, one per column, got 3", good, other, other)
    refuse("out[0] must have shape [2, 3], got [2, 4]", good.new_ones(2, 4), other)
    refuse("out[0] must have shape [2, 3], got [3, 3]", good.new_ones(3, 3), other)
    refuse("out[1] must have shape [2], got [2, 1]", good, other[:, None])
    refuse("out[1] must be float32, got float64", good, other.double())
    refuse("out[1] must be float32, got Half", good, other.half())
    refuse("out[0] must be contiguous, got strides [1, 2]", good.new_ones(3, 2).t(), other)


def test_dtypes_of_one_size_are_told_apart(device: torch.device) -> None:
    column = torch.ones(4, dtype=torch.bfloat16, device=device)
    index = torch.tensor([0], device=device)
    for dtype, name in ((torch.float16, "Half"), (torch.int16, "Short")):
        out = torch.ones(1, dtype=dtype, device=device)
        refused(f"out[0] must be BFloat16, got {name}", [column], index, [out])


def test_memory_is_not_shared_with_out(device: torch.device) -> None:
    table = torch.rand(8, 3).to(device)
    columns = [table[:4], torch.rand(4).to(device)]
    index = torch.arange(4, device=device)
    rows, numbers = untouched(columns, 4)
    text = "must not share memory with"
    refused(f"out[0] {text} columns[0]", columns, index, [table[3:7], numbers])
    refused(f"out[1] {text} columns[0]", columns, index, [rows, table.view(-1)[2:6]])
    refused(f"out[0] {text} out[1]", columns, index, [rows, rows.view(-1)[8:]])
    both = torch.zeros(8, dtype=torch.int64, device=device)
    refused(f"out[0] {text} index", [both[:4]], both[4:], [both[4:]])
    gather_rows(columns, index, out=[table[4:], numbers])
    assert torch.equal(table[4:], table[:4])


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_tensors_of_two_devices_are_refused(device: torch.device) -> None:
    a, index = torch.rand(4), torch.tensor([0, 1])
    there, index_there = a.to(device), index.to(device)
    refused("columns[1] must be on cuda:0, got cpu", [there, a], index_there, None)
    refused("index must be on cuda:0, got cpu", [there], index, None)
    refused("index must be on cpu, got cuda:0", [a], index_there, None)
    refused("out[0] must be on cuda:0, got cpu", [there], index_there, [torch.rand(2)])


# -- torch


def test_registration_is_sound(device: torch.device) -> None:
    index = random_index(7, 20, device)
    table = torch.rand(20, 6).to(device)
    for columns in ([table[:, :4], table[:, 5]], [table, torch.arange(20, device=device) > 3]):
        torch.library.opcheck(OPS.gather_rows.default, (columns, index, True))
        arguments = (columns, index, False, untouched(columns, 7))
        torch.library.opcheck(OPS.gather_rows.out, arguments)


@pytest.mark.compile
def test_compiles_into_one_graph(device: torch.device) -> None:
    @torch.compile(fullgraph=True)
    def compiled(columns: list[Tensor], index: Tensor, out: list[Tensor]) -> Any:
        fresh = gather_rows([2 * columns[0], columns[1]], index + 1)
        gather_rows(columns, index + 1, out=out, check=False)
        return [x + y for x, y in zip(fresh, out, strict=True)]

    torch.compiler.reset()
    for n in (7, 64):
        record = torch.rand(80, 6).to(device)
        columns = [record[:, :4], record[:, 4]]
        index = random_index(n, 79, device)
        want = by_torch(columns, index + 1)
        out = untouched(columns, n)
        got = compiled(columns, index, out)
        assert_same_bytes(out, want)
        torch.testing.assert_close(got, [3 * want[0], 2 * want[1]])


def test_carries_no_gradient(device: torch.device) -> None:
    column = torch.rand(4, 2).to(device).requires_grad_()
    index = torch.tensor([0, 1], device=device)
    (got,) = gather_rows([column], index)
    assert not got.requires_grad

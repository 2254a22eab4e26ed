"""The replay's fused calls against plain models in Python and float64."""

from __future__ import annotations

import gc
import random
import re
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from machin_fast import ops
from machin_fast._extension import library
from machin_fast.data import Replay

CAPACITY = 20
INT64, FLOAT32, FLOAT64 = torch.int64, torch.float32, torch.float64


def rows(first: int, n: int) -> tuple[Tensor, ...]:
    """Rows that tell their own number in each column."""
    number = torch.arange(first, first + n)
    return (
        number[:, None] + torch.tensor([0.0, 0.25, 0.5]),
        number,
        number % 3 == 0,
        number.to(torch.float16),
    )


def table(capacity: int = CAPACITY) -> tuple[Tensor, ...]:
    """Columns of which the first two are fields of a record."""
    record = torch.zeros(capacity, 20, dtype=torch.uint8)
    return (
        record[:, 8:].view(torch.float32),
        record.view(torch.uint8)[:, :8].contiguous().view(INT64)[:, 0],
        torch.zeros(capacity, dtype=torch.bool),
        torch.zeros(capacity, dtype=torch.float16),
    )


def batch_of(columns: tuple[Tensor, ...], n: int, mass: torch.dtype = FLOAT32) -> list[Tensor]:
    return [
        torch.full((n,), -1, dtype=INT64),
        torch.full((n,), -1, dtype=INT64),
        torch.full((n,), -1, dtype=FLOAT32),
        torch.full((n,), -1, dtype=mass),
        *(torch.zeros(n, *x.shape[1:], dtype=x.dtype) for x in columns),
    ]


def tree(capacity: int = CAPACITY, dtype: torch.dtype = FLOAT32) -> Tensor:
    return ops.sum_tree_new(capacity, dtype=dtype, minimum=True)


def leaves(nodes: Tensor, capacity: int = CAPACITY) -> Tensor:
    return ops.sum_tree_leaves(nodes, capacity=capacity)


def assert_sound(nodes: Tensor, capacity: int = CAPACITY) -> None:
    """Inner nodes are what the leaves make them."""
    rebuilt = nodes.clone()
    ops.sum_tree_rebuild_(rebuilt, capacity=capacity)
    assert torch.equal(rebuilt, nodes)


def filled(appended: int, capacity: int = CAPACITY) -> tuple[Tensor, ...]:
    """A table after rows [0, appended) were written."""
    columns = table(capacity)
    for first in range(0, appended, 7):
        new = rows(first, min(7, appended - first))
        library.write_rows(columns, new, first % capacity)
    return columns


# -- views -----------------------------------------------------------------------------------


def test_views_stand_for_a_tuple_of_tensors() -> None:
    columns, twin = table(), table()
    library.write_rows(library.views(columns), library.views(list(rows(3, 5))), 17)
    library.write_rows(twin, rows(3, 5), 17)
    assert all(map(torch.equal, columns, twin))

    index = torch.tensor([19, 0, 1])
    out = [torch.zeros(3, *x.shape[1:], dtype=x.dtype) for x in columns]
    library.gather_rows(library.views(columns), index, library.views(tuple(out)))
    assert all(torch.equal(x, column[index]) for x, column in zip(out, columns, strict=True))


def test_views_keep_their_tensors_and_nothing_else() -> None:
    x = torch.arange(4.0)
    alive = weakref.ref(x)
    before = sys.getrefcount(x)
    held = library.views([x])
    assert sys.getrefcount(x) == before + 1
    del held
    assert sys.getrefcount(x) == before

    held = library.views([x])
    del x
    gc.collect()
    assert alive() is not None
    got = torch.zeros(2)
    library.gather_rows(held, torch.tensor([3, 1]), [got])
    assert got.tolist() == [3, 1]
    del held
    gc.collect()
    assert alive() is None


def test_views_keep_the_memory_that_a_tensor_leaves() -> None:
    x, y = torch.zeros(4), torch.ones(4)
    held = library.views([x])
    x.data = y  # now x, and what held sees, is y
    library.write_rows(held, [torch.tensor([5.0])], 2)
    assert x.tolist() == [1, 1, 5, 1]


def test_views_follow_a_storage_that_moves() -> None:
    both = torch.zeros(2, 4)
    x, y = both[0], both[1]
    held = library.views((x, y))
    where = x.data_ptr()
    both.share_memory_()  # as sending it to another process does
    assert x.data_ptr() != where
    library.write_rows(held, (torch.tensor([5.0]), torch.tensor([6.0])), 1)
    assert both.tolist() == [[0, 5, 0, 0], [0, 6, 0, 0]]


def test_views_follow_a_storage_that_grows() -> None:
    both = torch.zeros(2, 4)
    x, y = both[0], both[1]
    held = library.views((y,))
    where = y.data_ptr()
    x.resize_(100_000)  # moves the storage of both
    assert y.data_ptr() != where
    library.write_rows(held, (torch.ones(1),), 3)
    assert y.tolist() == [0, 0, 0, 1]


def test_views_of_what_is_no_dense_cpu_tensor_are_refused() -> None:
    for bad in (3, None, torch.zeros(2), "ab", {}, object()):
        with pytest.raises(TypeError, match="views: tensors must be a tuple or list of tensors"):
            library.views(bad)
    for bad in (3, np.zeros(2), torch.nn.Parameter(torch.zeros(2))):
        with pytest.raises(TypeError, match=r"views: tensors must be a torch\.Tensor"):
            library.views([torch.zeros(2), bad])
    for bad in (torch.zeros(2).to_sparse(), torch.zeros(2, device="meta")):
        with pytest.raises(RuntimeError, match="views: tensors must be a dense tensor"):
            library.views((bad,))
    gone = torch.zeros(2)
    held = library.views([gone])
    gone.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="write_rows_: columns must be a dense tensor"):
        library.write_rows(held, [torch.zeros(1)], 0)
    with pytest.raises(RuntimeError, match="write_rows_: columns must be a dense tensor"):
        library.write_rows(held, [torch.zeros(1)], 0)  # and again


def test_a_list_may_lose_its_tensors_while_others_run() -> None:
    """Large calls let other threads run; what they work on must stay."""
    n = 20_000
    columns, new = [torch.zeros(n, 16)], [torch.ones(n, 16)]
    done = threading.Event()

    def lose() -> None:
        while not done.is_set():
            new[:] = [torch.ones(n, 16)]

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        for _ in range(50):
            library.write_rows(columns, new, 0)
            assert columns[0].min() == 1
    finally:
        done.set()
        thread.join()


# -- replay_appender -------------------------------------------------------------------------

NAMES = ("state", "number", "flag", "half")
APPENDED, OLDEST = 2, 3


def named(columns: Any) -> dict[str, Any]:
    return dict(zip(NAMES, columns, strict=True))


def counters(appended: int = 0, oldest: int = 0) -> Tensor:
    return torch.tensor([7, 8, appended, oldest, 9])


def one(x: float = 1.0) -> Tensor:
    return torch.tensor([x], dtype=FLOAT64)


def uniform_appender(columns: Any, counts: Tensor | None = None) -> Any:
    counts = counters() if counts is None else counts
    return library.replay_appender(NAMES, columns, counts, None, None, None, None)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("with_tree", [False, True])
def test_append_writes_rows_and_masses_around_the_ring(with_tree: bool, dtype: torch.dtype) -> None:
    columns, model = table(), table()
    nodes, expected = tree(dtype=dtype), torch.zeros(CAPACITY, dtype=dtype)
    counts, largest = counters(), one()
    alpha, epsilon = 0.6, 0.01
    entry = (nodes, largest, alpha, epsilon) if with_tree else (None, None, None, None)
    append = library.replay_appender(NAMES, library.views(columns), counts, *entry)
    appended = 0
    for step, n in enumerate([1, 7, 0, 13, 20, 5, 19, 2]):
        new = rows(appended, n)
        largest[0] = 1 + step / 3
        assert append(named(new)) is True
        slot = (appended + torch.arange(n)) % CAPACITY
        for column, x in zip(model, new, strict=True):
            column[slot] = x
        if with_tree:
            expected[slot] = (1 + step / 3 + epsilon) ** alpha
        appended += n
        assert all(map(torch.equal, columns, model))
        assert torch.equal(leaves(nodes), expected)
        assert_sound(nodes)
        assert torch.equal(counts, counters(appended, max(0, appended - CAPACITY)))


def test_append_leaves_fewer_rows_where_they_were_forgotten() -> None:
    counts = counters(33, 30)
    append = uniform_appender(filled(33), counts)
    assert append(named(rows(33, 16)))
    assert torch.equal(counts, counters(49, 30))
    assert append(named(rows(49, 4)))
    assert torch.equal(counts, counters(53, 33))


def test_append_takes_whatever_holds_the_numbers() -> None:
    columns = table()
    append = uniform_appender(columns)
    graph = torch.ones(2, 3, requires_grad=True)
    assert append(named((graph * 2, *rows(0, 2)[1:])))
    assert columns[0][:2].tolist() == [[2] * 3] * 2
    one_row = torch.ones(3)[None].expand(1, 3).t().reshape(3, 1).t()  # odd strides, no gaps
    assert append(named((one_row, *rows(2, 1)[1:])))
    large = rows(0, 1500)
    counts = counters()
    assert uniform_appender(table(2000), counts)(named(large))  # lets other threads run meanwhile
    assert counts[APPENDED] == 1500


def test_append_finds_rows_by_name() -> None:
    columns = table()
    append = uniform_appender(columns)
    new = named(rows(5, 3))
    assert append({"".join(name): new[name] for name in reversed(NAMES)})
    assert all(torch.equal(x[:3], y) for x, y in zip(columns, rows(5, 3), strict=True))


def test_append_follows_columns_that_move() -> None:
    columns = table()
    append = uniform_appender(library.views(columns))
    for x in columns:
        x.untyped_storage().share_memory_()  # as sending it to another process does
    assert append(named(rows(0, 4)))
    assert columns[1].tolist()[:5] == [0, 1, 2, 3, 0]


def unchanged(columns: tuple[Tensor, ...], *others: Tensor) -> Any:
    before = [x.clone() for x in (*columns, *others)]

    def check() -> None:
        assert all(map(torch.equal, (*columns, *others), before))

    return check


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "odd",
    [
        np.ones((2, 3), np.float32),
        [[1.0, 2.0, 3.0]] * 2,
        None,
        torch.ones(2, 3).as_subclass(Subclass),
        torch.nn.Parameter(torch.ones(2, 3)),
        torch.ones(3, 2).t(),
        torch.ones(2, 6)[:, ::2],
        torch.ones(2, 3).to_sparse(),
        torch.ones(2, 3, device="meta"),
        torch.ones(2, 3, dtype=torch.complex64).conj(),
        torch._efficientzerotensor(2, 3),
        torch.ones(2, 3, dtype=FLOAT64),
        torch.ones(2, 3, dtype=torch.int32),
        torch.ones(1, 3),
        torch.ones(3, 3),
        torch.ones(2, 4),
        torch.ones(2),
        torch.ones(2, 3, 1),
        torch.ones(()),
    ],
    ids=lambda odd: f"{type(odd).__name__}-{getattr(odd, 'layout', '')}",
)
@pytest.mark.parametrize("at", [0, 2])
def test_append_leaves_what_must_be_converted_to_the_caller(odd: Any, at: int) -> None:
    columns, nodes, counts = filled(25), tree(), counters(25, 5)
    check = unchanged(columns, nodes, counts)
    append = library.replay_appender(NAMES, columns, counts, nodes, one(), 0.6, 0.0)
    assert append(named(rows(0, 2)) | {NAMES[at]: odd}) is False
    check()


def test_append_leaves_what_it_cannot_do_to_the_caller() -> None:
    columns, nodes, counts = filled(25), tree(), counters(25, 5)
    check = unchanged(columns, nodes, counts)
    append = library.replay_appender(NAMES, columns, counts, nodes, one(), 0.6, 0.0)
    good = named(rows(0, 2))
    for bad in (
        {},
        {name: good[name] for name in NAMES[1:]},
        good | {"priority": torch.ones(2)},
        {name.upper(): x for name, x in good.items()},
        dict(zip([*NAMES[1:], 3], good.values(), strict=True)),
        list(good),
        None,
        named(rows(0, CAPACITY + 1)),
        good | {"half": good["half"].bfloat16()},
        good | {"number": columns[1][:2]},
    ):
        assert append(bad) is False
    check()


def test_names_may_be_anything_that_is_a_str() -> None:
    class Rude(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            raise ValueError("rude")

    columns, counts = table(), counters()
    check = unchanged(columns, counts)
    with pytest.raises(ValueError, match="rude"):
        uniform_appender(columns, counts)({Rude(k): x for k, x in named(rows(0, 2)).items()})
    check()


@pytest.mark.parametrize("largest", [-1.0, float("nan"), float("inf"), 1e300])
def test_append_leaves_masses_that_no_tree_takes_to_the_caller(largest: float) -> None:
    columns, nodes, counts = filled(25), tree(), counters(25, 5)
    check = unchanged(columns, nodes, counts)
    append = library.replay_appender(NAMES, columns, counts, nodes, one(largest), 1.0, 0.0)
    assert append(named(rows(0, 2))) is False
    check()


def test_append_writes_nowhere_if_its_memory_is_not_as_it_was() -> None:
    columns, counts = table(), counters()
    append = uniform_appender(library.views(columns), counts)
    good = named(rows(0, 2))
    for appended, oldest in [(-1, -1), (3, 4), (25, 4), (2**62, 0)]:
        counts[APPENDED], counts[OLDEST] = appended, oldest
        assert append(good) is False
    counts.copy_(counters())
    columns[2].data = torch.zeros(1, dtype=torch.bool)
    assert append(good) is False
    small = table(5)
    for x, y in zip(columns, small, strict=True):
        x.data = y
    assert append(good) is False
    assert torch.equal(counts, counters())


def test_appenders_of_what_they_cannot_use_are_refused() -> None:
    good = (NAMES, table(), counters(), tree(), one(), 0.6, 0.0)
    assert library.replay_appender(*good)(named(rows(0, 2)))

    def refused(at: int, bad: Any, kind: type[Exception], text: str) -> None:
        with pytest.raises(kind, match=f"^Replay.append: {text}"):
            library.replay_appender(*good[:at], bad, *good[at + 1 :])

    for names in (list(NAMES), NAMES[1:], None, "abcd", (*NAMES[:2], 3, "half")):
        refused(0, names, RuntimeError, "names must be a tuple of 4 str, got something else")
    refused(1, None, TypeError, "columns must be a tuple or list of tensors")
    refused(1, (), RuntimeError, "columns must have at least 1 tensor, got 0")
    empty = tuple(x[:0] for x in table())
    refused(1, empty, RuntimeError, "columns must have at least 1 row, got 0")
    refused(1, (*table()[:3], table(9)[3]), RuntimeError, r"columns\[3\] must have 20 rows, got 9")
    refused(2, None, TypeError, r"counters must be a torch\.Tensor")
    refused(2, counters().int(), RuntimeError, "counters must be int64, got int32")
    refused(2, counters()[:4], RuntimeError, r"counters must have shape \[5\], got \[4\]")
    refused(2, torch.zeros(10, dtype=INT64)[::2], RuntimeError, "counters must be contiguous")
    refused(3, [1], TypeError, r"nodes must be a torch\.Tensor")
    refused(3, tree(100), RuntimeError, "nodes must have")
    refused(4, None, TypeError, r"largest must be a torch\.Tensor")
    refused(4, one().float(), RuntimeError, "largest must be float64, got float32")
    for at in (5, 6):
        with pytest.raises(TypeError):
            library.replay_appender(*good[:at], "a", *good[at + 1 :])


def test_an_appender_keeps_its_tensors_and_nothing_else() -> None:
    x, counts, nodes, largest = torch.zeros(4), counters(), tree(4), one()
    kept = (x, counts, nodes, largest)
    before = [sys.getrefcount(t) for t in kept]
    append = library.replay_appender(("x",), (x,), counts, nodes, largest, 1.0, 0.0)
    assert append({"x": torch.ones(3)})
    del append
    assert [sys.getrefcount(t) for t in kept] == before

    append = library.replay_appender(("x",), (x,), counts, nodes, largest, 1.0, 0.0)
    alive = [weakref.ref(t) for t in kept]
    del x, counts, nodes, largest, kept
    gc.collect()
    assert append({"x": torch.ones(3)})
    assert all(ref() is not None for ref in alive)
    del append
    gc.collect()
    assert all(ref() is None for ref in alive)


# -- replay_sample ---------------------------------------------------------------------------

RANGES = [(0, 1), (0, 13), (0, 20), (5, 25), (17, 30), (20, 40), (33, 41)]


def assert_fetched(columns: tuple[Tensor, ...], batch: list[Tensor], number: Tensor) -> None:
    slot, index, _, _, *out = batch
    assert torch.equal(index, number)
    assert torch.equal(slot, number % CAPACITY)
    for got, column, expected in zip(out, columns, rows(0, 100), strict=True):
        assert torch.equal(got, column[slot])
        assert torch.equal(got, expected[number])


@pytest.mark.parametrize(("oldest", "appended"), RANGES)
@pytest.mark.parametrize("n", [0, 1, 9, 64, 1500])
def test_uniform_samples_are_the_seeds_draws(n: int, oldest: int, appended: int) -> None:
    columns = filled(appended)
    batch = batch_of(columns, n)
    seed, call = 2**63 + 11, 5
    library.replay_sample(
        library.views(columns), library.views(batch), None, seed, call, oldest, appended, 0.4
    )
    at = library.seed_of_call(seed, call) & (2**64 - 1)
    count = appended - oldest
    number = torch.tensor([oldest + int(splitmix(at, i) * count) for i in range(n)], dtype=INT64)
    assert_fetched(columns, batch, number)
    assert torch.equal(batch[2], torch.ones(n))
    assert torch.equal(batch[3], torch.full((n,), -1.0))


def splitmix(seed: int, i: int) -> float:
    """The i-th draw in [0, 1): Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195."""
    word = 2**64 - 1
    z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize(("oldest", "appended"), RANGES)
@pytest.mark.parametrize("n", [1, 9, 64, 1500])
def test_prioritized_samples_are_those_of_the_tree(
    n: int, oldest: int, appended: int, dtype: torch.dtype
) -> None:
    columns, nodes = filled(appended), tree(dtype=dtype)
    alive = torch.arange(oldest, appended)
    mass = (alive % 5).to(dtype) * 0.3
    mass[-1] = 0.07
    ops.sum_tree_update_(nodes, alive % CAPACITY, mass, capacity=CAPACITY)
    for beta in (0.0, 0.4, 1.0):
        batch = batch_of(columns, n, dtype)
        library.replay_sample(columns, batch, nodes, 3, 4, oldest, appended, beta)
        slot, drawn = torch.zeros(n, dtype=INT64), torch.zeros(n, dtype=dtype)
        probability = torch.zeros(n, dtype=dtype)
        library.sum_tree_sample(nodes, 3, 4, CAPACITY, True, slot, drawn, probability)
        last = appended - 1
        assert_fetched(columns, batch, last - (last - slot) % CAPACITY)
        assert torch.equal(batch[3], drawn)
        expected = (0.07 / drawn.double()).numpy() ** beta
        np.testing.assert_allclose(batch[2].numpy(), expected, rtol=1e-6)
        assert (batch[2] <= 1).all()
        if beta == 0 or bool((drawn == mass.min()).all()):
            assert torch.equal(batch[2], torch.ones(n))


def test_sample_refuses_bad_arguments() -> None:
    columns, nodes = filled(25), tree()
    held = library.views(columns)

    def sample(
        batch: Any = None, nodes: Any = None, oldest: int = 5, appended: int = 25, beta: float = 0
    ) -> None:
        batch = batch_of(columns, 4) if batch is None else batch
        library.replay_sample(held, batch, nodes, 1, 2, oldest, appended, beta)

    def with_other(at: int, other: Tensor) -> list[Tensor]:
        batch = batch_of(columns, 4)
        batch[at] = other
        return batch

    sample()
    check = unchanged(columns, nodes)
    for arguments, text in [
        ({"batch": batch_of((), 4)[:3]}, "batch must have slot, index, weight, mass .* got 3"),
        ({"batch": batch_of((), 4)}, "gather_rows: out must have 4 tensors"),
        ({"batch": with_other(0, torch.zeros(4))}, "slot must be int64, got float32"),
        ({"batch": with_other(0, torch.zeros(4, 1, dtype=INT64))}, r"slot must be \[n\]"),
        ({"batch": with_other(0, torch.zeros(8, dtype=INT64)[::2])}, "slot must be contiguous"),
        ({"batch": with_other(1, torch.zeros(5, dtype=INT64))}, r"index must have shape \[4\]"),
        ({"batch": with_other(2, torch.zeros(4, dtype=FLOAT64))}, "weight must be float32"),
        ({"batch": with_other(4, torch.zeros(4, 2))}, r"gather_rows: out\[0\] must have shape"),
        ({"batch": with_other(4, columns[0][:4])}, r"gather_rows: out\[0\] must"),
        ({"batch": with_other(7, torch.zeros(4).bfloat16())}, r"out\[3\] must be float16, got b"),
        ({"nodes": tree(dtype=FLOAT64)}, "mass must be float32|mass must be float64"),
        ({"nodes": nodes}, "sum_tree_sample: nodes must hold a positive weight"),
        ({"nodes": tree(100)}, "sum_tree_summary: nodes must have"),
        ({"nodes": ops.sum_tree_new(CAPACITY)}, "Replay.sample: nodes must keep the least weight"),
        ({"nodes": nodes.int()}, "nodes must be float32 or float64"),
        ({"oldest": -1}, r"Replay.sample: oldest must be in \[0, 25\], got -1"),
        ({"oldest": 26}, r"Replay.sample: oldest must be in \[0, 25\], got 26"),
        ({"oldest": 25}, "Replay.sample: the memory must hold at least 1 row, got 0"),
        ({"oldest": 4}, r"Replay.sample: appended must be at most oldest \+ 20, got 25"),
        ({"beta": 1.5}, r"Replay.sample: beta must be in \[0, 1\], got 1.5"),
        ({"beta": float("nan")}, r"Replay.sample: beta must be in \[0, 1\], got nan"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            sample(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"nodes must be a torch\.Tensor"):
        sample(nodes=3)
    check()


def test_a_leaf_behind_the_last_slot_is_no_way_out_of_the_table() -> None:
    columns, nodes = filled(25, 20), tree()
    nodes[1] = nodes[16 + 25] = 1  # the root, and padding
    with pytest.raises(RuntimeError, match=r"gather_rows: index must be in \[0, 20\), got 25"):
        library.replay_sample(columns, batch_of(columns, 4), nodes, 1, 2, 5, 25, 0.4)


# -- replay_update ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("given", [FLOAT32, FLOAT64])
@pytest.mark.parametrize(("oldest", "appended"), RANGES)
@pytest.mark.parametrize("n", [0, 1, 9, 64, 1500])
def test_update_sets_masses_of_rows_that_are_alive(
    n: int, oldest: int, appended: int, given: torch.dtype, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(n + appended)
    for alpha, epsilon in [(0.6, 1e-6), (0.0, 0.0), (1.0, 0.5), (2.0, 0.0)]:
        nodes = tree(dtype=dtype)
        index = torch.randint(appended, (n,), generator=generator)  # repeated and stale ones, too
        priority = torch.rand(n, generator=generator, dtype=given) * 10
        priority[::5] = 0
        got = library.replay_update(
            nodes, CAPACITY, index, priority, oldest, appended, alpha, epsilon
        )
        expected: dict[int, float] = {}
        alive = [
            (i, p) for i, p in zip(index.tolist(), priority.tolist(), strict=True) if i >= oldest
        ]
        for i, p in alive:
            expected[i % CAPACITY] = (p + epsilon) ** alpha
        assert got == (n - len(alive), max((p for _, p in alive), default=0.0))
        assert type(got[0]) is int and type(got[1]) is float
        for slot, mass in enumerate(leaves(nodes).tolist()):
            assert mass == pytest.approx(
                expected.get(slot, 0.0), rel=1e-12 if dtype == FLOAT64 else 1e-7
            )
        assert_sound(nodes)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.6, 1.0, 1.3, 2.0])
def test_masses_are_as_good_as_float64(alpha: float) -> None:
    n = 10_000
    nodes = tree(n, FLOAT64)
    priority = 10 ** torch.linspace(-30, 30, n, dtype=FLOAT64)
    library.replay_update(nodes, n, torch.arange(n), priority, 0, n, alpha, 0.0)
    expected = [p**alpha for p in priority.tolist()]
    np.testing.assert_allclose(leaves(nodes, n).numpy(), expected, rtol=1e-12, atol=0)


def test_a_repeated_index_keeps_its_last_priority() -> None:
    nodes = tree()
    index, priority = torch.tensor([7, 3, 7, 7, 3]), torch.tensor([9.0, 1.0, 2.0, 4.0, 5.0])
    assert library.replay_update(nodes, CAPACITY, index, priority, 0, 10, 1.0, 0.0) == (0, 9.0)
    assert leaves(nodes)[7] == 4 and leaves(nodes)[3] == 5 and leaves(nodes).sum() == 9


@pytest.mark.parametrize(
    ("index", "priority", "kind", "text"),
    [
        ([1, 25, -3], [1, 1, 1], IndexError, "index must be in [0, 25), got 25 at position 1"),
        ([1, -3, 25], [1, 1, 1], IndexError, "index must be in [0, 25), got -3 at position 1"),
        ([2**62], [1], IndexError, f"index must be in [0, 25), got {2**62} at position 0"),
        ([1, 25], [-1, 1], IndexError, "index must be in [0, 25), got 25 at position 1"),
        ([9, 8, 7], [1, -1, 1], ValueError, "priority must be finite and not negative, got -1.0"),
        ([9, 8], [1, float("nan")], ValueError, "not negative, got nan at position 1"),
        ([9, 8], [float("inf"), 1], ValueError, "not negative, got inf at position 0"),
        ([0, 8], [float("-inf"), 1], ValueError, "not negative, got -inf at position 0"),
        ([9, 8], [1, 1e38], RuntimeError, "sum_tree_update_: weight must be in [0, "),
    ],
)
@pytest.mark.parametrize("repeat", [1, 600])
def test_update_refuses_the_whole_batch(
    index: list[int], priority: list[float], kind: type[Exception], text: str, repeat: int
) -> None:
    nodes = tree()
    good = torch.arange(5, 25)
    library.replay_update(nodes, CAPACITY, good, torch.ones(20), 5, 25, 1.0, 0.0)
    check = unchanged((), nodes)
    where = 0 if repeat == 1 else 2000
    text = re.sub(r"position (\d+)", lambda match: f"position {where + int(match[1])}", text)
    front = good.repeat(100)[:where]
    full_index = torch.cat([front, torch.tensor(index)])
    full_priority = torch.cat([torch.ones(where), torch.tensor(priority)])
    with pytest.raises(kind, match=re.escape(text)):
        library.replay_update(nodes, CAPACITY, full_index, full_priority, 5, 25, 1.0, 0.0)
    check()


def test_update_leaves_what_must_be_converted_to_the_caller() -> None:
    nodes = tree()
    check = unchanged((), nodes)
    index, priority = torch.arange(4), torch.ones(4)
    for odd_index, odd_priority in [
        (index.int(), priority),
        (index[:3], priority),
        (index[:, None], priority[:, None]),
        (torch.arange(8)[::2], priority),
        (index, torch.ones(8)[::2]),
        (index, priority.half()),
        (index, index),
        (index.tolist(), priority),
        (index, priority.numpy()),
        (index, torch.nn.Parameter(priority)),
        (index.to_sparse(), priority),
        (None, None),
    ]:
        got = library.replay_update(nodes, CAPACITY, odd_index, odd_priority, 0, 10, 1.0, 0.0)
        assert got is None
    check()
    graph = torch.ones(4, requires_grad=True) * 2
    assert library.replay_update(nodes, CAPACITY, index, graph, 0, 10, 1.0, 0.0) == (0, 2.0)


def test_update_refuses_bad_rings() -> None:
    nodes, index, priority = tree(), torch.arange(4), torch.ones(4)
    for capacity, oldest, appended, text in [
        (CAPACITY, -1, 10, r"oldest must be in \[0, 10\], got -1"),
        (CAPACITY, 11, 10, r"oldest must be in \[0, 10\], got 11"),
        (CAPACITY, 0, 21, r"appended must be at most oldest \+ 20, got 21 with oldest 0"),
        (0, 0, 0, "capacity must be in"),
        (100, 0, 10, "nodes must have"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            library.replay_update(nodes, capacity, index, priority, oldest, appended, 1.0, 0.0)


# -- all of them -----------------------------------------------------------------------------


def test_calls_leave_no_references_behind() -> None:
    columns, nodes, new = table(), tree(), rows(0, 4)
    batch = batch_of(columns, 4)
    index, priority = torch.arange(4), torch.ones(4)
    held, held_batch = library.views(columns), library.views(batch)
    counts, largest, good = counters(), one(), named(new)
    everything = (
        *columns, *new, *batch, nodes, index, priority, held, held_batch, columns, new, counts,
        largest, good, NAMES,
    )  # fmt: skip
    before = [sys.getrefcount(x) for x in everything]

    def call(some: Any, other: Any) -> None:
        append = library.replay_appender(NAMES, some, counts, nodes, largest, 0.6, 0.0)
        for given in (good, good | {"flag": None}, good | {"half": batch[1]}, {}, new):
            append(given)
        library.replay_sample(some, other, nodes, 1, 2, 0, 4, 0.4)
        library.replay_sample(some, other, None, 1, 2, 0, 4, 0.4)
        library.replay_update(nodes, CAPACITY, index, priority, 0, 4, 0.6, 0.0)
        library.replay_update(nodes, CAPACITY, index, None, 0, 4, 0.6, 0.0)
        refusals: tuple[Callable[[], Any], ...] = (
            lambda: library.replay_appender(NAMES, some, counts, nodes, largest, "a", 0.0),
            lambda: library.replay_appender((1, *NAMES[1:]), some, counts, nodes, largest, 0, 0),
            lambda: library.replay_sample(some, other, nodes, 1, 2, 4, 4, 0.4),
            lambda: library.replay_update(nodes, CAPACITY, index, -priority, 0, 4, 0.6, 0.0),
            lambda: library.views([*columns, None]),
        )
        for refused in refusals:
            with pytest.raises((RuntimeError, ValueError, TypeError)):
                refused()

    for _ in range(3):
        call(held, held_batch)
        call(columns, batch)
        call(list(columns), tuple(batch))
    gc.collect()
    assert [sys.getrefcount(x) for x in everything] == before


@pytest.mark.parametrize(
    ("name", "count"),
    [("replay_appender", 7), ("replay_sample", 8), ("replay_update", 8)],
)
def test_a_wrong_number_of_arguments_is_refused(name: str, count: int) -> None:
    for given in (0, count - 1, count + 1):
        text = f"{name}: must be given {count} arguments, got {given}"
        with pytest.raises(RuntimeError, match=text):
            getattr(library, name)(*[None] * given)


class Hostile:
    """Raises whenever it is asked anything."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)

    def __index__(self) -> int:
        raise ValueError("index")

    def __float__(self) -> float:
        raise ValueError("float")

    def __len__(self) -> int:
        raise ValueError("len")


def test_no_arguments_crash_a_call() -> None:
    """Whatever comes: a result, None or an error, and no write where none belongs."""
    columns, nodes = filled(25), tree()
    ops.sum_tree_update_(nodes, torch.arange(20), torch.ones(20), capacity=CAPACITY)
    batch = batch_of(columns, 4)
    new, counts = named(rows(0, 2)), counters(25, 5)
    appender = (NAMES, columns, counts, nodes, one(), 0.6, 0.0)
    append = library.replay_appender(*appender)

    def append_to(*arguments: Any) -> Any:
        return library.replay_appender(*arguments)(new) or None

    calls: list[tuple[Callable[..., Any], Sequence[Any]]] = [
        (append, (new,)),
        (append_to, appender),
        (library.replay_sample, (columns, batch, nodes, 1, 2, 5, 25, 0.4)),
        (
            library.replay_update,
            (nodes, CAPACITY, torch.arange(5, 9), torch.ones(4), 5, 25, 0.6, 0.0),
        ),
        (library.gather_rows, (columns, torch.arange(4), batch[4:])),
        (library.write_rows, (columns, rows(0, 2), 3)),
    ]
    odd: list[Any] = [
        None, True, 0, 1, -1, 3, 19, 20, 25, 2**31, 2**62, 2**63, -(2**63), 2**64, 10**30,
        0.5, -0.5, float("nan"), float("inf"), 1e308, "a", b"", (), [], {}, object(), Hostile(),
        int, lambda: 0,
        (None,), [1, 2], np.zeros(3), np.float64(1), (np.zeros(2),) * 4,
        torch.zeros(0), torch.zeros(()), torch.zeros(4), torch.zeros(4, 3), torch.zeros(0, 3),
        torch.zeros(4, dtype=INT64), torch.full((4,), 2**62), torch.full((4,), -1),
        torch.full((5,), 2**62), torch.full((5,), -1), torch.zeros(5, dtype=INT64), new, {},
        dict.fromkeys(NAMES), dict.fromkeys(range(4)), NAMES, one(float("nan")), one(1e300),
        torch.zeros(4).half(), torch.zeros(4).to_sparse(), torch.zeros(4, device="meta"),
        torch.zeros(3, 4).t(), torch.zeros(1).expand(4), torch._efficientzerotensor(4),
        columns, columns[:2], columns[::-1], batch, batch[:4], batch[4:], rows(0, 0), rows(0, 30),
        library.views(columns), library.views(batch), library.views(()),
        library.views((torch.zeros(()),)), library.views((torch.zeros(0), torch.zeros(0, 2))),
        nodes, tree(dtype=FLOAT64), tree(1), ops.sum_tree_new(CAPACITY), weakref.ref(nodes),
        torch._C._to_dlpack(torch.zeros(4)),
    ]  # fmt: skip
    draw = random.Random(1)
    results = {"result": 0, "none": 0, "error": 0}
    for _ in range(20_000):
        call, arguments = draw.choice(calls)
        arguments = list(arguments)
        for _ in range(draw.choice([1, 1, 1, 2, 3, 8])):
            arguments[draw.randrange(len(arguments))] = draw.choice(odd)
        try:
            got = call(*arguments)
        except (RuntimeError, TypeError, ValueError, IndexError, OverflowError):
            results["error"] += 1
        else:
            results["none" if got is None else "result"] += 1
    assert min(results.values()) > 100
    assert_sound(nodes, 32)  # its leaves; rows(0, 30) are good columns, too


# -- whole replays ---------------------------------------------------------------------------


def replay_of(n: int, **settings: Any) -> Replay:
    replay = Replay(CAPACITY, seed=0, **settings)
    replay.append(**named(rows(0, n)))
    return replay


def test_a_replay_appends_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = replay_of(3)
    monkeypatch.setattr(Replay, "_to_rows", None)
    replay.append(**named(rows(3, 19)))
    assert (replay.oldest, replay.appended) == (2, 22)
    with pytest.raises(TypeError, match="not callable"):
        replay.append(**named(x.flip(0).t() for x in rows(0, 2)))


def test_new_rows_enter_with_alpha_and_epsilon_as_they_are() -> None:
    replay = replay_of(1, priority="step", alpha=1.0, epsilon=1.0)
    replay.append(**named(rows(1, 1)))
    replay.alpha = 2.0
    replay.append(**named(rows(2, 1)))
    replay.epsilon = 0.5
    replay.append(**named(rows(3, 1)))
    replay.update_priority(torch.tensor([0]), torch.tensor([3.0]))
    replay.append(**named(rows(4, 1)))
    assert replay.masses().tolist() == [12.25, 2, 4, 2.25, 12.25]


@pytest.mark.parametrize("settings", [{}, {"priority": "step"}, {"window": 2}])
def test_a_replay_that_was_sent_shares_nothing(settings: dict[str, Any]) -> None:
    replay = replay_of(3, **settings)
    counts = replay._counters
    where = counts.tensor.data_ptr()
    ForkingPickler.dumps(replay)  # type: ignore[no-untyped-call]
    assert counts.tensor.data_ptr() == where
    assert not counts.tensor.is_shared()
    assert replay._priorities is None or not replay._priorities.nodes.is_shared()
    replay.append(**named(rows(3, 5)))
    assert replay.appended == counts.tensor[APPENDED] == 8

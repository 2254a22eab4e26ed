"""``plans`` against their contracts, with references in plain Python."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from machin_fast.data import Batch, Replay, Trajectory, plans
from machin_fast.data.plans import Plan

LENGTHS = [3, 1, 6, 2, 8, 4]
N = sum(LENGTHS)
WEIGHT = 1e-6  # what importance weights, float32, may be off


@dataclass
class Case:
    """A source, and what is in it: segments of the numbers of their rows."""

    source: Trajectory | Replay
    segments: list[list[int]]

    @property
    def rows(self) -> list[int]:
        return list(itertools.chain(*self.segments))


def pieces(lengths: Sequence[int]) -> list[list[int]]:
    ends = list(itertools.accumulate(lengths))
    return [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]


def trajectory(
    lengths: Sequence[int] = LENGTHS, device: torch.device | str = "cpu", **columns: Tensor
) -> Trajectory:
    """Steps that tell their number; what followed a segment is the negative of its last."""
    number = torch.arange(sum(lengths), device=device)
    bounds = [0, *itertools.accumulate(lengths)]
    final = -number[[end - 1 for end in bounds[1:]]]
    return Trajectory(
        {"number": number, "state": number[:, None] + torch.tensor([0.0, 0.5], device=device)}
        | {name: column.to(device) for name, column in columns.items()},
        bounds,
        final={"number": final},
    )


def append_to(source: Replay, *lengths: int) -> None:
    """Gives a replay more of such steps."""
    for length in lengths:
        number = torch.arange(source.appended, source.appended + length, device=source.device)
        source.append(number=number, state=number[:, None] + number.new_tensor([0.0, 0.5]).float())


def replay(lengths: Sequence[int], device: torch.device | str = "cpu", **settings) -> Replay:
    """A replay that was given so many steps, segment by segment."""
    made = Replay(device=device, **{"capacity": 20, "seed": 5} | settings)
    append_to(made, *lengths)
    return made


def case(kind: str, device: torch.device | str = "cpu") -> Case:
    """Trajectories and replays; those that are full have let go of rows 0 to 5 at least."""
    if kind == "trajectory":
        return Case(trajectory(device=device), pieces(LENGTHS))
    if kind == "not full":
        return Case(replay(LENGTHS, device, capacity=50, evict="segment"), pieces(LENGTHS))
    if kind == "steps leave":  # of one "segment": none are kept
        return Case(replay(LENGTHS, device, capacity=18), [list(range(6, N))])
    settings = {"segments leave": {"evict": "segment"}, "windows": {"window": 3}}[kind]
    return Case(replay(LENGTHS, device, capacity=18, **settings), pieces(LENGTHS)[3:])


KINDS = ["trajectory", "not full", "segments leave", "windows"]
every_source = pytest.mark.parametrize("kind", [*KINDS, "steps leave"])
every_source_of_sequences = pytest.mark.parametrize("kind", KINDS)


def batched(values: list, n: int) -> list[list]:
    return [values[i : i + n] for i in range(0, len(values), n)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(plan: Iterable[Batch]) -> list[list[int]]:
    """The rows of each batch, which must be whole and known by the right number."""
    found = []
    for batch in plan:
        assert torch.equal(batch.number, batch.index)
        assert torch.equal(batch.state[:, 0].long(), batch.number)
        assert len(batch) == batch.weight.shape[0] == batch.index.shape[0]
        assert batch.weight.dtype == torch.float32 and batch.mask is None
        found.append(batch.number.tolist())
    return found


def assert_drawn_as(drawn: Iterable[int], probability: dict[int, float]) -> None:
    """Chi-square at p = 0.001. Draws that are stratified or distinct spread less, and pass, too."""
    count = Counter(drawn)
    probability = {row: p for row, p in probability.items() if p}
    assert set(count) <= set(probability)
    expected = {
        row: p * count.total() / sum(probability.values()) for row, p in probability.items()
    }
    assert min(expected.values()) >= 5
    statistic = sum((count[row] - e) ** 2 / e for row, e in expected.items())
    degrees = len(expected) - 1
    # Wilson and Hilferty 1931.
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3
    assert statistic < limit


def uniformly(rows: Iterable[int]) -> dict[int, float]:
    return dict.fromkeys(rows, 1.0)


# -- rows --------------------------------------------------------------------------------------


@every_source
def test_full_is_all_rows_in_order(kind, device):
    here = case(kind, device)
    assert numbers(plans.full(here.source)) == [here.rows]


@every_source
@pytest.mark.parametrize("replace", [True, False])
def test_uniform_draws_every_row_equally_often(kind, replace, device):
    here = case(kind, device)
    plan = plans.uniform(
        here.source, batch_size=9, batches=200, replace=replace, generator=generator()
    )
    assert_drawn_as(itertools.chain(*numbers(plan)), uniformly(here.rows))


@pytest.mark.parametrize(
    ("n", "batch_size"), [(1, 1), (2, 1), (24, 24), (24, 23), (24, 6), (1000, 250), (1000, 40)]
)
def test_rows_without_replacement_are_distinct(n, batch_size):
    plan = plans.uniform(
        trajectory([n]), batch_size=batch_size, batches=20, replace=False, generator=generator()
    )
    for rows in numbers(plan):
        assert len(rows) == len(set(rows)) == batch_size
        assert set(rows) <= set(range(n))


@pytest.mark.parametrize("batch_size", [5, 2])  # two ways to draw them
def test_sets_without_replacement_are_equally_likely_and_in_any_order(batch_size):
    plan = plans.uniform(
        trajectory([9]), batch_size=batch_size, batches=2000, replace=False, generator=generator()
    )
    drawn = numbers(plan)
    sets = {rows: i for i, rows in enumerate(itertools.combinations(range(9), batch_size))}
    assert_drawn_as((sets[tuple(sorted(rows))] for rows in drawn), uniformly(sets.values()))
    for place in range(batch_size):
        assert_drawn_as((rows[place] for rows in drawn), uniformly(range(9)))


def test_uniform_draws_with_replacement_are_independent():
    plan = plans.uniform(trajectory([4]), batch_size=2, batches=1600, generator=generator())
    drawn = numbers(plan)
    within = [4 * first + second for first, second in drawn]
    between = [4 * here[1] + there[0] for here, there in itertools.pairwise(drawn)]
    for pairs in (within, between):
        assert_drawn_as(pairs, uniformly(range(16)))


@every_source
def test_an_epoch_has_each_row_once_in_another_order(kind, device):
    here = case(kind, device)
    n = len(here.rows)
    drawn = numbers(plans.epochs(here.source, batch_size=5, epochs=3, generator=generator()))
    per_epoch = math.ceil(n / 5)
    assert [len(rows) for rows in drawn] == 3 * ((n // 5) * [5] + [n % 5] * bool(n % 5))
    passes = [
        list(itertools.chain(*drawn[i : i + per_epoch])) for i in (0, per_epoch, 2 * per_epoch)
    ]
    assert all(sorted(each) == here.rows for each in passes)
    assert len({tuple(each) for each in [here.rows, *passes]}) == 4


def test_a_smaller_last_batch_is_left_out_on_demand():
    plan = plans.epochs(trajectory(), batch_size=7, epochs=2, drop_last=True, generator=generator())
    drawn = numbers(plan)
    assert [len(rows) for rows in drawn] == [7] * 6 == [7] * len(plan)
    for half in (drawn[:3], drawn[3:]):
        assert len(set(itertools.chain(*half))) == 21


@pytest.mark.parametrize("batch_size", [N, N + 1, 1000])
def test_an_epoch_of_few_rows_is_one_batch(batch_size):
    plan = plans.epochs(trajectory(), batch_size=batch_size)
    assert [sorted(rows) for rows in numbers(plan)] == [list(range(N))]
    assert len(plan) == 1


def test_places_of_an_epoch_are_equally_likely():
    plan = plans.epochs(trajectory([7]), batch_size=3, epochs=300, generator=generator())
    drawn = numbers(plan)
    for batch, place in ((0, 0), (1, 2), (2, 0)):
        assert_drawn_as((rows[place] for rows in drawn[batch::3]), uniformly(range(7)))


@every_source
@pytest.mark.parametrize("batch_size", [1, 5, 17, 70])
def test_cycle_gives_full_batches_from_passes_over_all_rows(kind, batch_size, device):
    here = case(kind, device)
    plan = plans.cycle(here.source, batch_size=batch_size, batches=13, generator=generator())
    for walk in range(2):  # the second walk does not go on where the first one stopped
        drawn = numbers(plan)
        assert [len(rows) for rows in drawn] == [batch_size] * 13
        rows = list(itertools.chain(*drawn))
        passes = batched(rows, len(here.rows))
        *whole, rest = passes
        assert all(sorted(each) == here.rows for each in whole), walk
        assert len(set(rest)) == len(rest) and set(rest) <= set(here.rows)
        assert len({tuple(each) for each in passes}) == len(passes)


def test_walks_of_a_cycle_leave_each_other_alone():
    plan = plans.cycle(trajectory([10]), batch_size=4, batches=5, generator=generator())
    next(iter(plan))
    first, second = numbers(plan), numbers(plan)
    for drawn in (first, second):
        assert sorted(itertools.chain(*drawn)) == sorted(2 * list(range(10)))


def test_rows_keep_what_followed_them():
    for batch in plans.epochs(trajectory(), batch_size=6):
        ends = {rows[-1] for rows in pieces(LENGTHS)}
        expected = [-row if row in ends else row + 1 for row in batch.number.tolist()]
        assert batch.next_number.tolist() == expected


def test_batches_are_in_memory_of_their_own():
    here = case("steps leave")
    first, *others = plans.uniform(here.source, batch_size=4, batches=5)
    kept = first.number.clone()
    for batch in others:
        batch.number.zero_()
    append_to(here.source, 18)
    assert torch.equal(first.number, kept)


# -- rows by priority --------------------------------------------------------------------------

PRIORITY = torch.tensor([0.5, 2.0, 0.0, 1.0, 4.0, 0.25, 3.0, 2.0, 0.0, 7.5])


def prioritized_trajectory(device: torch.device | str = "cpu") -> Trajectory:
    return trajectory([10], device, priority=PRIORITY)


def prioritized_replay(device: torch.device | str = "cpu", **settings) -> Replay:
    """Rows 4 to 13 with the priorities above, in a ring that has wrapped around."""
    made = replay([14], device, capacity=10, priority="step", **{"epsilon": 0.0} | settings)
    made.update_priority(torch.arange(4, 14, device=device), PRIORITY.to(device))
    return made


def probabilities(alpha: float, first: int = 0) -> dict[int, float]:
    return {first + i: p**alpha if p else 0.0 for i, p in enumerate(PRIORITY.tolist())}


def assert_weights(batch: Batch, mass: dict[int, float], beta: float) -> None:
    """(N P(i))^-beta, divided by the largest possible."""
    total = sum(mass.values())
    possible = {i: (len(mass) * m / total) ** -beta for i, m in mass.items() if m}
    expected = [possible[row] / max(possible.values()) for row in batch.index.tolist()]
    assert batch.weight.dtype == torch.float32
    torch.testing.assert_close(
        batch.weight.double().cpu(), torch.tensor(expected, dtype=torch.float64),
        atol=WEIGHT, rtol=0,
    )  # fmt: skip


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.5])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_rows_of_a_trajectory_are_drawn_by_priority(alpha, beta, device):
    source = prioritized_trajectory(device)
    plan = plans.prioritized(
        source, batch_size=97, batches=40, alpha=alpha, beta=beta, generator=generator()
    )
    batches = list(plan)
    assert_drawn_as(itertools.chain(*numbers(batches)), probabilities(alpha))
    for batch in batches:
        assert_weights(batch, probabilities(alpha), beta)
    assert source["priority"].tolist() == PRIORITY.tolist()


def test_rows_of_a_replay_are_drawn_by_its_priorities(device):
    source = prioritized_replay(device, alpha=0.7, beta=0.4)
    before = source.masses()
    batches = list(plans.prioritized(source, batch_size=97, batches=40))
    assert_drawn_as(itertools.chain(*numbers(batches)), probabilities(0.7, 4))
    for batch in batches:
        assert_weights(batch, probabilities(0.7, 4), 0.4)
    assert torch.equal(source.masses(), before)


def test_a_replay_uses_its_own_seed_alpha_and_beta():
    source, twin = (prioritized_replay(alpha=0.7, beta=0.2, beta_steps=10) for _ in range(2))
    for batch in plans.prioritized(source, batch_size=8, batches=12):
        expected = twin.sample(8)
        assert torch.equal(batch.index, expected.index)
        torch.testing.assert_close(batch.weight, expected.weight, atol=WEIGHT, rtol=0)
    assert source.current_beta == 1


@pytest.mark.parametrize("make", [prioritized_trajectory, prioritized_replay])
@pytest.mark.parametrize("alpha", [0.7, 1.0])
def test_rows_are_drawn_by_rank(make, alpha, device):
    source = make(device)
    plan = plans.prioritized(
        source, batch_size=97, batches=40, by="rank", alpha=alpha, beta=0.5, generator=generator()
    )
    order = sorted(range(10), key=lambda i: -PRIORITY[i].item())  # of equals the first is first
    mass = {source.oldest + i: (1 + order.index(i)) ** -alpha for i in range(10)}
    batches = list(plan)
    assert_drawn_as(itertools.chain(*numbers(batches)), mass)
    for batch in batches:
        assert_weights(batch, mass, 0.5)


@pytest.mark.parametrize("by", ["priority", "rank"])
def test_alpha_0_draws_uniformly(by):
    source = trajectory([5], priority=torch.tensor([1.0, 9.0, 2.0, 0.5, 4.0]))
    plan = plans.prioritized(
        source, batch_size=7, batches=100, by=by, alpha=0.0, generator=generator()
    )
    batches = list(plan)
    assert_drawn_as(itertools.chain(*numbers(batches)), uniformly(range(5)))
    assert all(batch.weight.eq(1).all() for batch in batches)


def test_draws_by_priority_are_stratified():
    source = trajectory([4], priority=torch.tensor([1.0, 1.0, 4.0, 2.0]))
    plan = plans.prioritized(source, batch_size=8, batches=50, alpha=1.0, generator=generator())
    assert numbers(plan) == 50 * [[0, 1, 2, 2, 2, 2, 3, 3]]


def test_a_replay_s_own_draws_are_by_priorities_as_they_are_at_each():
    source = prioritized_replay()
    drawn = iter(plans.prioritized(source, batch_size=50, batches=3))
    assert 13 in next(drawn).number.tolist()
    source.update_priority(torch.tensor([13]), torch.tensor([0.0]))
    assert 13 not in next(drawn).number.tolist()
    append_to(source, 1)  # enters with the largest so far
    assert 14 in next(drawn).number.tolist()


def test_ranks_are_those_of_when_a_walk_begins():
    source = prioritized_replay()
    plan = plans.prioritized(source, batch_size=50, batches=2, by="rank", alpha=20.0)
    assert numbers(plan) == [[13] * 50] * 2  # by far the most likely
    source.update_priority(torch.tensor([13]), torch.tensor([0.0]))
    drawn = iter(plan)
    assert next(drawn).number.tolist() == [8] * 50
    source.update_priority(torch.tensor([13]), torch.tensor([9.0]))
    assert next(drawn).number.tolist() == [8] * 50
    assert numbers(plan) == [[13] * 50] * 2


def test_ranks_stay_with_their_rows_when_others_come_and_leave():
    source = prioritized_replay()
    plan = plans.prioritized(source, batch_size=50, by="rank", alpha=20.0)
    append_to(source, 3)  # of the same priority as 13, which is the first of them
    assert numbers(plan) == [[13] * 50]


@pytest.mark.parametrize("by", ["priority", "rank"])
def test_new_priorities_are_written_back(by, device):
    source = prioritized_replay(device)
    for batch in plans.prioritized(source, batch_size=50, batches=10, by=by):
        batch.update_priority((batch.number == 10).double())
    assert source.masses().tolist() == [0.0] * 6 + [1.0] + [0.0] * 3
    (rows,) = numbers(plans.prioritized(source, batch_size=20))
    assert rows == [10] * 20


ROWS: dict[str, Callable[[Replay], Plan]] = {
    "full": plans.full,
    "uniform": lambda source: plans.uniform(source, batch_size=4),
    "epochs": lambda source: plans.epochs(source, batch_size=4),
    "cycle": lambda source: plans.cycle(source, batch_size=4, batches=1),
}
SEQUENCES: dict[str, Callable[[Replay], Plan]] = {
    "windows": lambda source: plans.windows(source, batch_size=4, length=2),
    "episodes": lambda source: plans.episodes(source, batch_size=4),
}


@pytest.mark.parametrize("name", ROWS)
def test_batches_of_rows_write_priorities_back_where_rows_are_drawn_by_them(name, device):
    source = replay([8], device, priority="step", alpha=1.0, epsilon=0.0)
    batch = next(iter(ROWS[name](source)))
    batch.update_priority(batch.number.double() + 2)
    masses = dict(enumerate(source.masses().tolist()))
    seen = set(batch.number.tolist())
    assert masses == {row: row + 2 if row in seen else 1 for row in range(8)}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *itertools.product(ROWS, [{"priority": "window", "window": 3}, {"window": 3}, {}]),
        *itertools.product(
            SEQUENCES,
            [{"priority": "step", "evict": "segment"}, {"priority": "window", "window": 3}],
        ),
    ],
)
def test_other_batches_write_no_priorities(name, settings):
    source = replay([8], **settings)
    (batch, *_) = (ROWS | SEQUENCES)[name](source)
    with pytest.raises(ValueError, match="the batch must come from a prioritized replay"):
        batch.update_priority(torch.ones(len(batch)))


# -- windows -----------------------------------------------------------------------------------


def expected_starts(segments: list[list[int]], length: int) -> list[int]:
    starts = []
    for rows in segments:
        starts += rows[: max(1, len(rows) - length + 1)]
    return starts


def assert_windows(batch: Batch, segments: list[list[int]], length: int) -> None:
    """Successive rows of one segment each; what is padded repeats the last of them."""
    assert batch.mask is not None
    assert batch.number.shape == batch.mask.shape == (length, len(batch))
    assert batch.state.shape == (length, len(batch), 2)
    assert batch.weight.shape == (len(batch),)
    assert torch.equal(batch.state[..., 0].long(), batch.number)
    segment_of = {row: rows for rows in segments for row in rows}
    for start, rows, mask in zip(
        batch.index.tolist(), batch.number.t().tolist(), batch.mask.t().tolist(), strict=True
    ):
        whole = segment_of[start]
        real = whole[whole.index(start) :][:length]
        padding = length - len(real)
        assert rows == real + padding * real[-1:]
        assert mask == len(real) * [True] + padding * [False]


@every_source_of_sequences
@pytest.mark.parametrize("length", [1, 3, 4, 9])
def test_windows_stay_in_their_segment_and_begin_anywhere(kind, length, device):
    here = case(kind, device)
    own = kind == "windows" and length == 3  # by the replay's seed
    plan = plans.windows(
        here.source, batch_size=20, length=length, batches=60,
        generator=None if own else generator(),
    )  # fmt: skip
    starts = []
    for batch in plan:
        assert_windows(batch, here.segments, length)
        assert batch.burn_in == 0 and batch.weight.eq(1).all()
        starts += batch.index.tolist()
    assert_drawn_as(starts, uniformly(expected_starts(here.segments, length)))


def test_windows_carry_their_burn_in_and_what_followed():
    plan = plans.windows(trajectory(), batch_size=20, length=4, burn_in=3, generator=generator())
    (batch,) = plan
    assert batch.burn_in == 3
    ends = {rows[-1] for rows in pieces(LENGTHS)}
    for rows, following in zip(batch.number.t(), batch.next_number.t(), strict=True):
        expected = [-row if row in ends else row + 1 for row in rows.tolist()]
        assert following.tolist() == expected


def test_windows_begin_by_the_priorities_of_a_column(device):
    priority = torch.rand(N, generator=generator(1))
    priority[[4, 14]] = 0
    source = trajectory(LENGTHS, device, sequence=priority)
    plan = plans.windows(
        source, batch_size=31, length=3, batches=80, priority="sequence", beta=0.6,
        generator=generator(),
    )  # fmt: skip
    mass = {row: priority[row].item() for row in expected_starts(pieces(LENGTHS), 3)}
    starts = []
    for batch in plan:
        assert_windows(batch, pieces(LENGTHS), 3)
        assert_weights(batch, mass, 0.6)
        starts += batch.index.tolist()
    assert_drawn_as(starts, mass)


def window_replay(
    device: torch.device | str = "cpu", seed: int = 5
) -> tuple[Replay, dict[int, float]]:
    """A replay that has let go of segments, and the masses of its windows of 3 steps."""
    made = replay(
        LENGTHS, device, capacity=18, priority="window", window=3, alpha=0.5, beta=0.4,
        epsilon=0.0, seed=seed,
    )  # fmt: skip
    starts = expected_starts(pieces(LENGTHS)[3:], 3)
    priority = [0.5 + i for i in range(len(starts))]
    made.update_priority(torch.tensor(starts, device=device), torch.tensor(priority, device=device))
    return made, {start: p**0.5 for start, p in zip(starts, priority, strict=True)}


def test_windows_of_a_replay_are_drawn_by_its_priorities(device):
    source, mass = window_replay(device)
    starts = []
    for batch in plans.windows(source, batch_size=31, length=3, batches=80, burn_in=1):
        assert_windows(batch, pieces(LENGTHS)[3:], 3)
        assert_weights(batch, mass, 0.4)
        assert batch.burn_in == 1
        starts += batch.index.tolist()
    assert_drawn_as(starts, mass)


def test_windows_are_those_that_the_replay_samples():
    source, twin = window_replay()[0], window_replay()[0]
    for batch in plans.windows(source, batch_size=6, length=3, batches=5):
        expected = twin.sample_windows(6)
        assert torch.equal(batch.index, expected.index)
        assert torch.equal(batch.number, expected.number)
        assert torch.equal(batch.weight, expected.weight)


def test_windows_of_another_length_are_equally_likely():
    source, _ = window_replay()
    plan = plans.windows(source, batch_size=5, length=2, batches=100, generator=generator())
    starts = [start for batch in plan for start in batch.index.tolist()]
    assert_drawn_as(starts, uniformly(expected_starts(pieces(LENGTHS)[3:], 2)))


def test_new_priorities_of_windows_are_written_back():
    source, _ = window_replay()
    for batch in plans.windows(source, batch_size=50, length=3, batches=4):
        batch.update_priority((batch.index == 16).double())
    (batch,) = plans.windows(source, batch_size=9, length=3)
    assert batch.index.tolist() == [16] * 9


def test_rows_that_begin_no_window_take_no_priority(device):
    source, mass = window_replay(device)
    before, largest = source.masses(), source.max_priority
    others = torch.tensor([row for row in range(12, N) if row not in mass], device=device)
    assert others.numel()
    source.update_priority(others, torch.full(others.shape, 9e9, device=device))
    assert torch.equal(source.masses(), before)
    assert source.max_priority == largest and source.stale_updates == 0


# -- episodes ----------------------------------------------------------------------------------


def sequences(batch: Batch) -> list[list[int]]:
    """The real rows of each sequence; what is padded repeats the last of them."""
    assert batch.mask is not None
    assert batch.number.shape == batch.mask.shape == (batch.mask.shape[0], len(batch))
    assert torch.equal(batch.state[..., 0].long(), batch.number)
    assert batch.weight.tolist() == [1.0] * len(batch)
    lengths = batch.mask.sum(0).tolist()
    assert not lengths or max(lengths) == batch.mask.shape[0]
    found = []
    for n, rows, mask in zip(
        lengths, batch.number.t().tolist(), batch.mask.t().tolist(), strict=True
    ):
        assert mask == n * [True] + (len(mask) - n) * [False]
        assert rows[n:] == (len(rows) - n) * [rows[n - 1]]
        found.append(rows[:n])
    assert batch.index.tolist() == [rows[0] for rows in found]
    return found


@every_source_of_sequences
def test_episodes_come_once_an_epoch_in_another_order(kind, device):
    here = case(kind, device)
    count = len(here.segments)
    plan = plans.episodes(here.source, batch_size=2, epochs=6, generator=generator())
    batches = [sequences(batch) for batch in plan]
    assert [len(batch) for batch in batches] == 6 * ((count // 2) * [2] + (count % 2) * [1])
    found = list(itertools.chain(*batches))
    epochs = [found[i : i + count] for i in range(0, 6 * count, count)]
    assert all(sorted(epoch) == here.segments for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) > 1


@every_source_of_sequences
@pytest.mark.parametrize("per_sequence", [1, 2, 3])
def test_segments_follow_each_other_in_order_without_shuffle(kind, per_sequence, device):
    here = case(kind, device)
    plan = plans.episodes(here.source, batch_size=2, per_sequence=per_sequence, shuffle=False)
    groups = batched(here.segments, per_sequence)
    expected = [list(itertools.chain(*each)) for each in groups if len(each) == per_sequence]
    assert list(itertools.chain(*map(sequences, plan))) == expected


def test_chains_are_of_segments_in_any_order():
    plan = plans.episodes(
        trajectory(), batch_size=5, epochs=300, per_sequence=4, generator=generator()
    )
    segments = pieces(LENGTHS)
    starts = {rows[0]: rows for rows in segments}
    orders = []
    for batch in plan:
        (rows,) = sequences(batch)  # 6 segments make one chain of 4, and 2 are left out
        chain = [starts[row] for row in rows if row in starts]
        assert rows == list(itertools.chain(*chain))
        assert len(chain) == 4 and len({each[0] for each in chain}) == 4
        orders.append([segments.index(each) for each in chain])
    for place in range(4):
        assert_drawn_as((order[place] for order in orders), uniformly(range(6)))


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 2, 4, 2]), (True, [4, 4])])
def test_an_incomplete_batch_of_episodes_is_kept_or_left_out(drop_last, sizes):
    plan = plans.episodes(trajectory(), batch_size=4, epochs=2, drop_last=drop_last)
    assert [len(batch) for batch in plan] == sizes
    assert len(plan) == len(sizes)


def test_a_batch_is_as_long_as_its_longest_sequence():
    plan = plans.episodes(trajectory(), batch_size=2, shuffle=False)
    assert [batch.mask.shape[0] for batch in plan if batch.mask is not None] == [3, 6, 8]


@pytest.mark.parametrize("per_sequence", [1, 2])
def test_outputs_on_real_steps_are_those_of_each_episode_alone(per_sequence):
    source = trajectory()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gru = torch.nn.GRU(2, 5).double()
    (batch,) = plans.episodes(
        source, batch_size=9, per_sequence=per_sequence, generator=generator()
    )
    assert batch.mask is not None
    output, _ = gru(batch.state.double() / N)
    for i, rows in enumerate(sequences(batch)):
        alone, _ = gru(source["state"][rows, None].double() / N)
        torch.testing.assert_close(output[batch.mask[:, i], i], alone[:, 0], atol=1e-12, rtol=0)


def test_padding_is_as_valid_as_what_it_repeats():
    probability = torch.rand(N, 3, generator=generator()).softmax(1).requires_grad_()
    rows = {"action": torch.arange(N) % 3, "probability": probability.detach()}
    (batch,) = plans.episodes(trajectory(LENGTHS, **rows), batch_size=9)
    logits = batch.probability.log().requires_grad_()
    log_prob = torch.distributions.Categorical(probs=logits.exp()).log_prob(batch.action)
    (log_prob * batch.mask).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


# -- all plans ---------------------------------------------------------------------------------

# Over sources of their own, with batches that neither 2 nor 3 divides.
MAKE: dict[str, Callable[[torch.Generator], Plan]] = {
    "full": lambda random: plans.full(trajectory()),
    "uniform": lambda random: plans.uniform(
        trajectory(), batch_size=5, batches=4, generator=random
    ),
    "uniform, replay": lambda random: plans.uniform(
        case("steps leave").source, batch_size=5, batches=4, generator=random
    ),
    "uniform, distinct": lambda random: plans.uniform(
        trajectory(), batch_size=11, batches=4, replace=False, generator=random
    ),
    "epochs": lambda random: plans.epochs(
        trajectory(), batch_size=23, epochs=2, generator=random
    ),
    "epochs, dropped": lambda random: plans.epochs(
        case("steps leave").source, batch_size=5, drop_last=True, generator=random
    ),
    "cycle": lambda random: plans.cycle(
        trajectory(), batch_size=7, batches=9, generator=random
    ),
    "prioritized": lambda random: plans.prioritized(
        prioritized_trajectory(), batch_size=5, batches=4, generator=random
    ),
    "prioritized, rank": lambda random: plans.prioritized(
        prioritized_trajectory(), batch_size=5, batches=4, by="rank", generator=random
    ),
    "prioritized, replay": lambda random: plans.prioritized(
        prioritized_replay(seed=random.initial_seed()), batch_size=5, batches=4
    ),
    "windows": lambda random: plans.windows(
        trajectory(), batch_size=5, length=4, batches=4, generator=random
    ),
    "windows, column": lambda random: plans.windows(
        prioritized_trajectory(), batch_size=5, length=4, batches=4, priority="priority",
        generator=random,
    ),
    "windows, replay": lambda random: plans.windows(
        window_replay(seed=random.initial_seed())[0], batch_size=5, length=3, batches=4
    ),
    "episodes": lambda random: plans.episodes(
        trajectory(), batch_size=5, epochs=3, generator=random
    ),
    "episodes, replay": lambda random: plans.episodes(
        case("segments leave").source, batch_size=2, epochs=3, generator=random
    ),
    "episodes, chains": lambda random: plans.episodes(
        trajectory(), batch_size=2, epochs=3, per_sequence=2, generator=random
    ),
}  # fmt: skip
every_plan = pytest.mark.parametrize("name", MAKE)
every_random_plan = pytest.mark.parametrize("name", [name for name in MAKE if name != "full"])


def plan_of(name: str, seed: int = 0) -> Plan:
    return MAKE[name](generator(seed))


def content(batch: Batch) -> list[tuple[object, ...]]:
    """For each row or sequence all that the batch says of it, padding apart."""
    number = batch.number if batch.mask is not None else batch.number[None]
    mask = torch.ones_like(number, dtype=torch.bool) if batch.mask is None else batch.mask
    return [
        (index, weight, tuple(rows[real].tolist()))
        for index, weight, rows, real in zip(
            batch.index.tolist(), batch.weight.tolist(), number.t(), mask.t(), strict=True
        )
    ]


def walk(plan: Plan) -> list[list[tuple[object, ...]]]:
    return [content(batch) for batch in plan]


@every_plan
def test_the_length_of_a_plan_is_the_number_of_its_batches(name):
    plan = plan_of(name)
    assert len(plan) == len(list(plan)) == len(list(plan))
    assert len(plan.shard(0, 2)) == len(plan)


@every_plan
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shards_are_disjoint_and_cover_each_batch(name, world_size):
    whole = walk(plan_of(name))
    shards = [walk(plan_of(name).shard(rank, world_size)) for rank in range(world_size)]
    for i, rows in enumerate(whole):
        for rank in range(world_size):
            assert shards[rank][i] == rows[rank::world_size]


def test_shard_is_there_as_a_function_and_of_a_shard():
    assert walk(plans.shard(plan_of("epochs"), 1, 2)) == walk(plan_of("epochs").shard(1, 2))
    quarter = plan_of("epochs").shard(1, 2).shard(0, 2)
    assert walk(quarter) == walk(plan_of("epochs").shard(1, 4))


@every_plan
def test_the_same_seed_gives_the_same_batches(name):
    assert walk(plan_of(name, 3)) == walk(plan_of(name, 3))


@every_random_plan
def test_each_walk_draws_anew(name):
    plan = plan_of(name)
    assert walk(plan) != walk(plan)


@every_random_plan
def test_another_seed_gives_other_batches(name):
    assert walk(plan_of(name, 3)) != walk(plan_of(name, 4))


def test_a_generator_that_is_set_back_gives_a_walk_again():
    random = generator(7)
    plan = plans.windows(trajectory(), batch_size=4, length=2, batches=3, generator=random)
    first = walk(plan)
    assert walk(plan) != first
    random.manual_seed(7)
    assert walk(plan) == first


def test_without_a_generator_torch_s_own_decides():
    source = prioritized_trajectory()
    with torch.random.fork_rng(devices=[]):
        for make in (
            lambda: plans.uniform(source, batch_size=5),
            lambda: plans.epochs(source, batch_size=5),
            lambda: plans.cycle(source, batch_size=5, batches=2),
            lambda: plans.prioritized(source, batch_size=5, batches=9),
            lambda: plans.windows(source, batch_size=5, length=2, batches=9),
        ):
            torch.manual_seed(0)
            first, second = walk(make()), walk(make())
            torch.manual_seed(0)
            assert walk(make()) == first != second


# -- rows that come and go ---------------------------------------------------------------------

# Over a replay with priorities of steps, that keeps segments, or one with priorities of windows.
LIVE: dict[str, Callable[[Replay, Replay], Plan]] = {
    "full": lambda steps, windows: plans.full(steps),
    "uniform": lambda steps, windows: plans.uniform(steps, batch_size=40, batches=9),
    "uniform, distinct": lambda steps, windows: plans.uniform(
        steps, batch_size=8, batches=60, replace=False
    ),
    "epochs": lambda steps, windows: plans.epochs(steps, batch_size=5, epochs=2),
    "cycle": lambda steps, windows: plans.cycle(steps, batch_size=5, batches=9),
    "prioritized": lambda steps, windows: plans.prioritized(steps, batch_size=40, batches=9),
    "prioritized, rank": lambda steps, windows: plans.prioritized(
        steps, batch_size=40, batches=9, by="rank"
    ),
    "windows": lambda steps, windows: plans.windows(windows, batch_size=40, length=3, batches=9),
    "windows, length": lambda steps, windows: plans.windows(
        windows, batch_size=40, length=2, batches=9
    ),
    "episodes": lambda steps, windows: plans.episodes(steps, batch_size=2, epochs=2),
}
FIXED = ["epochs", "cycle", "prioritized, rank", "windows, length", "episodes"]
DRAWN = ["uniform", "uniform, distinct", "prioritized", "windows"]
# Of 10 rows, and of 18; of others 9.
BATCHES = {
    "full": (1, 1), "uniform, distinct": (60, 60), "epochs": (4, 8), "episodes": (2, 4)
}  # fmt: skip
every_live_plan = pytest.mark.parametrize("name", LIVE)


def live(name: str) -> tuple[Plan, list[Replay]]:
    """A plan over 10 rows in 2 segments, and the replays, which have room for 20."""
    sources = [
        replay([6, 4], priority="step", evict="segment"),
        replay([6, 4], priority="window", window=3),
    ]
    return LIVE[name](*sources), sources


def more(sources: Iterable[Replay], *lengths: int) -> None:
    for source in sources:
        append_to(source, *lengths)


def seen(batches: Iterable[Batch]) -> set[int]:
    return {row for batch in batches for row in batch.number.flatten().tolist()}


@every_live_plan
def test_a_walk_takes_the_rows_that_are_there_when_it_begins(name):
    plan, sources = live(name)
    few, many = BATCHES.get(name, (9, 9))
    assert len(plan) == len(plan.shard(0, 2)) == few
    assert seen(plan) == set(range(10)) and len(list(plan)) == few
    more(sources, 5, 3)
    assert len(plan) == len(plan.shard(0, 2)) == many
    batches = list(plan)
    assert seen(batches) == set(range(18)) and len(batches) == many
    more(sources, 9)  # the first two segments leave
    assert seen(plan) == set(range(10, 27))


@pytest.mark.parametrize("name", FIXED)
def test_a_walk_of_fixed_rows_does_not_see_what_comes_later(name):
    plan, sources = live(name)
    batches = iter(plan)
    first = next(batches)
    more(sources, 5, 3)
    later = list(batches)
    assert 1 + len(later) == BATCHES.get(name, (9, 9))[0]
    assert seen([first, *later]) == set(range(10))


@pytest.mark.parametrize("name", DRAWN)
def test_a_walk_of_new_draws_sees_what_comes_and_misses_nothing_that_leaves(name):
    plan, sources = live(name)
    batches = iter(plan)
    assert seen([next(batches)]) <= set(range(10))
    more(sources, 5, 3, 9)
    later = list(batches)
    assert 1 + len(later) == BATCHES.get(name, (9, 9))[0]
    assert seen(later) == set(range(10, 27))


@pytest.mark.parametrize("name", FIXED)
def test_rows_that_leave_during_a_walk_are_missing_then(name):
    plan, sources = live(name)
    batches = iter(plan)
    next(batches)
    more(sources, 20)  # all that were there leave
    with pytest.raises(IndexError, match=r"index must be in \[10, 30\), got \d"):
        next(batches)
    assert seen(plan) == set(range(10, 30))  # the next walk has what is there


@every_live_plan
def test_a_walk_that_finds_no_rows(name):
    plan, sources = live(name)
    for source in sources:
        source.clear()
    if name in ("epochs", "episodes"):
        assert len(plan) == len(list(plan)) == 0
    else:
        with pytest.raises(ValueError, match=r"must (have|hold) at least 1 row, got 0$"):
            list(plan)


def test_a_walk_that_finds_too_few_rows_for_a_batch_without_replacement():
    source = replay([10])
    plan = plans.uniform(source, batch_size=8, replace=False)
    source.clear()
    append_to(source, 7)
    with pytest.raises(
        ValueError, match="uniform: batch_size must be at most 7 without replace, got 8"
    ):
        list(plan)
    append_to(source, 1)
    assert [sorted(rows) for rows in numbers(plan)] == [list(range(10, 18))]


def test_no_priority_that_is_positive_is_an_error_when_a_walk_begins():
    source = trajectory(LENGTHS, priority=torch.zeros(N))
    message = "priority must be positive somewhere, got 0 everywhere"
    plan = plans.prioritized(source, batch_size=2)
    with pytest.raises(ValueError, match=f"^prioritized: {message}"):
        next(iter(plan))
    plan = plans.windows(source, batch_size=2, length=3, priority="priority")
    with pytest.raises(ValueError, match=f"^windows: {message}"):
        next(iter(plan))


def test_a_replay_whose_priorities_are_all_zero_draws_its_rows_alike():
    own = prioritized_replay()
    plan = plans.prioritized(own, batch_size=500)
    own.update_priority(torch.arange(4, 14), torch.zeros(10))
    (batch,) = plan
    assert batch.index.unique().tolist() == list(range(4, 14))
    assert (batch.weight == 1).all()


# -- bad arguments -----------------------------------------------------------------------------


def bad_plan(name: str, arguments: dict[str, object]) -> None:
    good: dict[str, dict[str, object]] = {
        "full": {},
        "uniform": {"batch_size": 2},
        "epochs": {"batch_size": 2},
        "cycle": {"batch_size": 2, "batches": 2},
        "prioritized": {"batch_size": 2},
        "windows": {"batch_size": 2, "length": 3},
        "episodes": {"batch_size": 2},
    }
    priority = torch.ones(N)
    given = {"source": trajectory(LENGTHS, priority=priority)} | good[name] | arguments
    getattr(plans, name)(**given)


PLANS = ["full", "uniform", "epochs", "cycle", "prioritized", "windows", "episodes"]


@pytest.mark.parametrize("name", PLANS)
def test_the_good_arguments_below_are_good(name):
    bad_plan(name, {})


@pytest.mark.parametrize("name", PLANS)
def test_no_rows_are_refused(name):
    empty = trajectory([])
    for source in (empty, Replay(4, priority="step")):
        with pytest.raises(ValueError, match=f"{name}: source must have at least 1 row, got 0"):
            bad_plan(name, {"source": source})


def spoiled(value: float) -> Trajectory:
    priority = torch.ones(N)
    priority[3] = value
    return trajectory(LENGTHS, priority=priority)


COUNTS = [
    (name, {count: 0}, f"{count} must be at least 1, got 0")
    for name, counts in {
        "uniform": ("batch_size", "batches"),
        "epochs": ("batch_size", "epochs"),
        "cycle": ("batch_size", "batches"),
        "prioritized": ("batch_size", "batches"),
        "windows": ("batch_size", "batches", "length"),
        "episodes": ("batch_size", "epochs", "per_sequence"),
    }.items()
    for count in counts
]
OWN = "must be None for a replay, which has its own, got "
COLUMNS = "must have a column {}, got number, state. Add it with transforms"
OTHERS = [
    ("uniform", {"batch_size": 25, "replace": False},
     "batch_size must be at most 24 without replace, got 25"),
    ("epochs", {"batch_size": 25, "drop_last": True},
     "batch_size must be at most 24 with drop_last, got 25"),
    ("prioritized", {"by": "size"}, "by must be 'priority' or 'rank', got 'size'"),
    ("prioritized", {"alpha": -0.5}, "alpha must be finite and at least 0, got -0.5"),
    ("prioritized", {"alpha": math.nan}, "alpha must be finite and at least 0, got nan"),
    ("prioritized", {"beta": 1.5}, r"beta must be in \[0, 1\], got 1.5"),
    ("prioritized", {"source": trajectory()}, f"source {COLUMNS.format('priority')}"),
    ("prioritized", {"source": replay([4])}, "source must have priority='step', got None$"),
    ("prioritized", {"source": replay([4], window=2)},
     "source must have priority='step', got None$"),
    ("prioritized", {"source": window_replay()[0]},
     "source must have priority='step', got 'window'. Use plans.windows"),
    ("prioritized", {"source": spoiled(math.nan)},
     "priority must be finite and not negative, got nan at position 3"),
    ("prioritized", {"source": spoiled(-1.0)},
     "priority must be finite and not negative, got -1.0 at position 3"),
    ("prioritized", {"source": trajectory(LENGTHS, priority=torch.ones(N, 1))},
     r"priority must have shape \[24\], got \[24, 1\]"),
    ("windows", {"burn_in": 3}, r"burn_in must be in \[0, 3\), got 3"),
    ("windows", {"burn_in": -1}, r"burn_in must be in \[0, 3\), got -1"),
    ("windows", {"beta": -0.1}, r"beta must be in \[0, 1\], got -0.1"),
    ("windows", {"source": trajectory(), "priority": "urgency"},
     f"source {COLUMNS.format('urgency')}"),
    ("windows", {"source": spoiled(math.inf), "priority": "priority"},
     "priority must be finite and not negative, got inf at position 3"),
    *(
        (name, {"source": make(), **given}, f"{next(iter(given))} {OWN}{got}$")
        for name, make, given, got in (
            ("prioritized", prioritized_replay, {"alpha": 0.5}, 0.5),
            ("prioritized", prioritized_replay, {"beta": 0.0}, 0.0),
            ("prioritized", prioritized_replay, {"generator": generator()}, "<torch.*>"),
            ("windows", lambda: window_replay()[0], {"beta": 0.4}, 0.4),
            ("windows", lambda: replay([4], window=3), {"beta": 0.4}, 0.4),
            ("windows", lambda: window_replay()[0], {"generator": generator()}, "<torch.*>"),
            ("windows", lambda: window_replay()[0], {"priority": "priority"}, "'priority'"),
            ("windows", lambda: window_replay()[0], {"priority": "number", "length": 2},
             "'number'"),
            ("windows", lambda: replay([4], evict="segment"), {"priority": "number"}, "'number'"),
        )
    ),
    ("episodes", {"per_sequence": 7}, "per_sequence must be at most 6, got 7"),
    ("episodes", {"batch_size": 7, "drop_last": True},
     "batch_size must be at most 6 with drop_last, got 7"),
    ("episodes", {"batch_size": 4, "per_sequence": 2, "drop_last": True},
     "batch_size must be at most 3 with drop_last, got 4"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "message"), [*COUNTS, *OTHERS])
def test_bad_arguments_are_named_when_the_plan_is_made(name, arguments, message):
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        bad_plan(name, arguments)


@pytest.mark.parametrize(
    ("name", "count"),
    [*((name, next(iter(given))) for name, given, _ in COUNTS), ("windows", "burn_in")],
)
def test_counts_are_ints(name, count):
    for wrong in (2.5, 1.0, "2"):
        with pytest.raises(TypeError, match=f"^{name}: {count} must be an int, got {wrong!r}$"):
            bad_plan(name, {count: wrong})


@pytest.mark.parametrize("name", ["windows", "episodes"])
def test_sequences_need_a_replay_that_keeps_segments(name):
    with pytest.raises(ValueError, match=r"the replay must keep segments, got evict='step'. Make"):
        bad_plan(name, {"source": replay([4, 5])})


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_outside_of_the_world_is_refused(rank, world_size):
    plan = plans.full(trajectory())
    message = rf"Plan.shard: rank must be in \[0, {world_size}\), got {rank}"
    with pytest.raises(ValueError, match=message):
        plan.shard(rank, world_size)
    with pytest.raises(ValueError, match=message):
        plans.shard(plan, rank, world_size)

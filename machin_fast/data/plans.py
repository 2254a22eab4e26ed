"""Plans choose rows of a trajectory or a replay, batch by batch.

A plan is walked as often as one likes. Each walk takes the rows that are there when it begins, and
draws anew: with a ``torch.Generator`` of a known seed the same rows, without one by torch's default
generator. Rows that leave a replay during a walk are missing then (IndexError), except where each
draw is a new one (``uniform``, and what a replay draws by its own priorities). If no row is there,
``epochs`` and ``episodes`` have no batch, other plans fail (ValueError). Batches are in memory of
their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from machin_fast.data.batch import Batch
from machin_fast.data.priorities import check_priority
from machin_fast.data.replay import Replay
from machin_fast.data.sum_tree import SumTree
from machin_fast.data.trajectory import Trajectory
from machin_fast.data.windows import Source, fetch_chains, fetch_rows, fetch_windows
from machin_fast.functional import importance_weight


@dataclass(frozen=True)
class Draw:
    """What is chosen for one batch.

    Attributes:
        index: ``[n, ...]``, int64, rows or where windows or episodes begin.
        weight: ``[n]``, importance weights; None: all alike.
    """

    index: Tensor
    weight: Tensor | None = None


class Plan:
    """Batches to learn from, in a loop: ``for batch in plan``.

    Args:
        source: Where batches come from.
        draws: Chooses all batches of one walk.
        fetch: Fetches what was chosen.
        batches: How many batches a walk has, if it begins now.
    """

    def __init__(
        self,
        source: Source,
        draws: Callable[[], Iterable[Draw]],
        fetch: Callable[[Draw], Batch],
        batches: Callable[[], int],
    ) -> None:
        self._source = source
        self._draws = draws
        self._fetch = fetch
        self._batches = batches

    def __len__(self) -> int:
        """Number of batches of a walk that begins now."""
        return self._batches()

    def __iter__(self) -> Iterator[Batch]:
        draws = iter(self._draws())
        while True:
            with self._source.turn():  # nobody appends between draw and fetch
                draw = next(draws, None)
                if draw is None:
                    return
                batch = self._fetch(draw)
            yield batch

    def shard(self, rank: int, world_size: int) -> Plan:
        """The share of one of ``world_size`` processes that walk the same plan side by side.

        They must draw alike, from generators of equal seeds. Batch by batch, process ``rank`` gets
        every ``world_size``-th row (window, episode), beginning with its own.

        Raises:
            ValueError: ``rank`` is not in [0, world_size).
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"Plan.shard: rank must be in [0, {world_size}), got {rank}")

        def draws() -> Iterator[Draw]:
            for draw in self._draws():
                weight = None if draw.weight is None else draw.weight[rank::world_size]
                yield Draw(draw.index[rank::world_size].contiguous(), weight)

        return Plan(self._source, draws, self._fetch, self._batches)


def full(source: Source) -> Plan:
    """All rows in one batch, oldest first.

    Args:
        source: A trajectory or a replay.

    Returns:
        The plan.

    Raises:
        ValueError: There are no rows.
    """
    op = "full"
    _check_rows(op, source)

    def draws() -> Iterator[Draw]:
        _check_rows(op, source)
        yield Draw(_all_rows(source))

    return Plan(source, draws, _rows_of(source), lambda: 1)


def uniform(
    source: Source,
    *,
    batch_size: int,
    batches: int = 1,
    replace: bool = True,
    generator: torch.Generator | None = None,
) -> Plan:
    """Rows that are equally likely, independent from batch to batch.

    Args:
        source: A trajectory or a replay.
        batch_size: Rows of a batch.
        batches: How many.
        replace: May a row come twice in a batch?
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is less than 1, there are no rows, or fewer than ``batch_size``
            without ``replace``.
    """
    op = "uniform"
    _check(op, source, batch_size=batch_size, batches=batches)

    def rows() -> int:
        _check_rows(op, source)
        n = len(source)
        if not replace and batch_size > n:
            raise ValueError(
                f"{op}: batch_size must be at most {n} without replace, got {batch_size}"
            )
        return n

    def draws() -> Iterator[Draw]:
        draw = _with_replacement if replace else _distinct
        for _ in range(batches):
            yield Draw(source.oldest + draw(rows(), batch_size, generator))

    rows()  # refuses what it must now

    return Plan(source, draws, _rows_of(source), lambda: batches)


def epochs(
    source: Source,
    *,
    batch_size: int,
    epochs: int = 1,
    drop_last: bool = False,
    generator: torch.Generator | None = None,
) -> Plan:
    """All rows once an epoch, shuffled anew each time.

    Args:
        source: A trajectory or a replay.
        batch_size: Rows of a batch. The last one of an epoch may be smaller.
        epochs: How many.
        drop_last: Leave a smaller last batch out.
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is less than 1, or there is no batch.
    """
    _check("epochs", source, batch_size=batch_size, epochs=epochs)
    if drop_last and batch_size > len(source):
        raise ValueError(
            f"epochs: batch_size must be at most {len(source)} with drop_last, got {batch_size}"
        )

    def draws() -> Iterator[Draw]:
        rows = _all_rows(source)
        for _ in range(epochs):
            order = rows[torch.randperm(rows.shape[0], generator=generator)]
            yield from map(Draw, _batches_in(order, batch_size, drop_last))

    return Plan(
        source, draws, _rows_of(source),
        lambda: epochs * _batch_count(len(source), batch_size, drop_last),
    )  # fmt: skip


def cycle(
    source: Source, *, batch_size: int, batches: int, generator: torch.Generator | None = None
) -> Plan:
    """A fixed number of full batches, from shuffled passes over all rows, one after another.

    Args:
        source: A trajectory or a replay.
        batch_size: Rows of a batch.
        batches: How many.
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is less than 1, or there are no rows.
    """
    _check("cycle", source, batch_size=batch_size, batches=batches)

    def draws() -> Iterator[Draw]:
        _check_rows("cycle", source)
        rows = _all_rows(source)
        rest = rows[:0]
        for _ in range(batches):
            while rest.shape[0] < batch_size:
                order = rows[torch.randperm(rows.shape[0], generator=generator)]
                rest = torch.cat([rest, order])
            yield Draw(rest[:batch_size])
            rest = rest[batch_size:]

    return Plan(source, draws, _rows_of(source), lambda: batches)


def prioritized(
    source: Trajectory | Replay,
    *,
    batch_size: int,
    batches: int = 1,
    by: Literal["priority", "rank"] = "priority",
    alpha: float | None = None,
    beta: float | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    """Rows in proportion to their priorities, or by their rank among them, stratified.

    A replay draws by priority as its ``sample`` does: with its own alpha, beta and seed, and by
    priorities as they are at each draw. Otherwise they are those that stand there when a walk
    begins: the column ``priority`` of a trajectory, or those of the replay. Beginning then costs
    O(N log N), each batch O(batch_size log N).

    Source: Schaul et al. 2016, arXiv:1511.05952, sections 3.3 and 3.4.

    Args:
        source: A trajectory with a column ``priority``, or a replay with ``priority="step"``.
            Batches of a replay write priorities back (``batch.update_priority``).
        batch_size: Rows of a batch.
        batches: How many.
        by: "priority": P(i) ~ priority^alpha; "rank": P(i) ~ 1 / rank(i)^alpha, the largest
            priority having rank 1.
        alpha: Exponent of priorities or ranks, at least 0. None: 0.6, or the replay's own.
        beta: Exponent of importance weights, in [0, 1], which are at most 1. None: 0.4, or the
            replay's own.
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is out of its range, there are no rows or no priorities, or a replay
            shall draw by priority with another alpha, beta or generator than its own.
    """
    op = "prioritized"
    _check(op, source, batch_size=batch_size, batches=batches)
    if by not in ("priority", "rank"):
        raise ValueError(f"{op}: by must be 'priority' or 'rank', got {by!r}")
    if isinstance(source, Replay):
        if source.priority != "step":
            cure = ". Use plans.windows" if source.priority else ""
            raise ValueError(
                f"{op}: source must have priority='step', got {source.priority!r}{cure}"
            )
        if by == "priority":
            _check_own(op, alpha=alpha, beta=beta, generator=generator)
            return _own_plan(source, batch_size, batches, _rows_of(source))
    exponent = 0.6 if alpha is None else alpha
    correction = 0.4 if beta is None else beta
    if not 0 <= exponent < float("inf"):
        raise ValueError(f"{op}: alpha must be finite and at least 0, got {alpha}")
    _check_beta(op, correction)

    def masses() -> Tensor:
        if isinstance(source, Replay):
            priority = source.masses().double().cpu()  # of the same order
        else:
            priority = _priorities_in(op, source, "priority")
        if by == "priority":
            return priority**exponent
        rank = torch.empty_like(priority)
        order = priority.argsort(descending=True, stable=True)
        rank[order] = torch.arange(1, len(priority) + 1, dtype=torch.float64)
        return rank**-exponent

    def draws() -> Iterator[Draw]:
        _check_rows(op, source)
        rows = _all_rows(source)
        yield from _by_mass(op, rows, masses(), batch_size, batches, correction, generator)

    masses()  # refuses what it must now
    return Plan(source, draws, _rows_of(source), lambda: batches)


def windows(
    source: Source,
    *,
    batch_size: int,
    length: int,
    burn_in: int = 0,
    batches: int = 1,
    priority: str | None = None,
    beta: float | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    """Windows of successive steps within a segment, ``[length, batch_size, ...]``.

    A window begins at any step that has ``length`` steps left in its segment, or at the first step
    of a segment that is shorter: behind its end ``mask`` is False. A replay that was made with
    ``window=length`` draws as its ``sample_windows`` does: with its own beta and seed, and by
    priorities as they are at each draw. Otherwise beginning a walk costs O(N).

    Args:
        source: A trajectory, or a replay that keeps segments.
        batch_size: Windows of a batch.
        length: Steps, at least 1.
        burn_in: First steps that only warm up a recurrent state, in [0, length).
        batches: How many.
        priority: Column of a trajectory with the priority of the window that begins there. None:
            all windows are equally likely.
        beta: Exponent of importance weights, with ``priority``, in [0, 1]. None: 0.4.
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is out of its range, there are no rows, or a replay shall draw with
            another priority, beta or generator than its own.
    """
    op = "windows"
    _check(op, source, batch_size=batch_size, length=length, batches=batches)
    _check_int(op, "burn_in", burn_in)
    if not 0 <= burn_in < length:
        raise ValueError(f"{op}: burn_in must be in [0, {length}), got {burn_in}")
    correction = 0.4 if beta is None else beta
    _check_beta(op, correction)
    if isinstance(source, Replay):
        _check_own(op, priority=priority)
        if source.window == length:
            _check_own(op, beta=beta, generator=generator)
            return _own_plan(
                source, batch_size, batches,
                lambda draw: source.windows(draw.index, weight=draw.weight, burn_in=burn_in),
            )  # fmt: skip

    def draws() -> Iterator[Draw]:
        _check_rows(op, source)
        starts = source.window_starts(length).cpu()
        if priority is not None and isinstance(source, Trajectory):
            masses = _priorities_in(op, source, priority)[starts]
        else:
            masses = torch.ones(starts.shape[0], dtype=torch.float64)
        yield from _by_mass(op, starts, masses, batch_size, batches, correction, generator)

    def fetch(draw: Draw) -> Batch:
        return fetch_windows(source, draw.index, length, weight=draw.weight, burn_in=burn_in)

    source.window_starts(length)  # refuses what it must now
    if priority is not None and isinstance(source, Trajectory):
        _priorities_in(op, source, priority)
    return Plan(source, draws, fetch, lambda: batches)


def episodes(
    source: Source,
    *,
    batch_size: int,
    epochs: int = 1,
    per_sequence: int = 1,
    shuffle: bool = True,
    drop_last: bool = False,
    generator: torch.Generator | None = None,
) -> Plan:
    """Whole segments side by side, ``[T, batch_size, ...]``, all of them once an epoch.

    T is the longest of the batch; behind the end of a shorter one its last row is repeated, and
    ``mask`` is False.

    Args:
        source: A trajectory, or a replay that keeps segments.
        batch_size: Sequences of a batch. The last one of an epoch may be smaller.
        epochs: How many.
        per_sequence: Segments that follow each other in one sequence (RL^2, Duan et al. 2016,
            arXiv:1611.02779). What does not fill a sequence is left out.
        shuffle: Else segments come in order.
        drop_last: Leave a smaller last batch out.
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is less than 1, or there is no batch.
    """
    _check("episodes", source, batch_size=batch_size, epochs=epochs, per_sequence=per_sequence)

    def sequences() -> int:
        return source.segment_starts().shape[0] // per_sequence

    now = sequences()
    if not now:
        raise ValueError(
            f"episodes: per_sequence must be at most {source.segment_starts().shape[0]}, "
            f"got {per_sequence}"
        )
    if drop_last and batch_size > now:
        raise ValueError(
            f"episodes: batch_size must be at most {now} with drop_last, got {batch_size}"
        )

    def draws() -> Iterator[Draw]:
        starts = source.segment_starts().cpu()
        count = starts.shape[0]
        for _ in range(epochs):
            order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
            whole = count // per_sequence * per_sequence
            chosen = starts[order[:whole]].view(-1, per_sequence)
            yield from map(Draw, _batches_in(chosen, batch_size, drop_last))

    return Plan(
        source, draws, lambda draw: fetch_chains(source, draw.index),
        lambda: epochs * _batch_count(sequences(), batch_size, drop_last),
    )  # fmt: skip


def shard(plan: Plan, rank: int, world_size: int) -> Plan:
    """As ``Plan.shard``.

    Args:
        plan: The plan that all processes walk.
        rank, world_size: Which of them this is, and of how many.

    Returns:
        The plan of this process.

    Raises:
        ValueError: ``rank`` is not in [0, world_size).
    """
    return plan.shard(rank, world_size)


def _rows_of(source: Source) -> Callable[[Draw], Batch]:
    return lambda draw: fetch_rows(source, draw.index, draw.weight)


def _own_plan(
    source: Replay, batch_size: int, batches: int, fetch: Callable[[Draw], Batch]
) -> Plan:
    """Draws that the replay makes itself, as it then is."""

    def draws() -> Iterator[Draw]:
        for _ in range(batches):
            yield Draw(*source.draw(batch_size))

    return Plan(source, draws, fetch, lambda: batches)


def _by_mass(
    op: str,
    rows: Tensor,
    masses: Tensor,
    batch_size: int,
    batches: int,
    beta: float,
    generator: torch.Generator | None,
) -> Iterator[Draw]:
    """Draws of ``rows`` in proportion to masses that stay as they are."""
    tree = SumTree(masses.shape[0], dtype=torch.float64, minimum=True)
    tree.leaves.copy_(masses)
    tree.rebuild_()
    least = tree.minimum()
    if least == float("inf"):
        raise ValueError(f"{op}: priority must be positive somewhere, got 0 everywhere")
    for _ in range(batches):
        # A generator's draws, not the tree's own: torch's default one if none is given.
        tree.seed, tree.calls = int(torch.randint(2**63 - 1, (), generator=generator)), 0
        place, mass, _ = tree.sample(batch_size)
        yield Draw(rows[place], importance_weight(mass, 1, beta, least).float())


def _priorities_in(op: str, source: Trajectory, name: str) -> Tensor:
    """The column ``name``, ``[N]`` float64, on the CPU."""
    if name not in source:
        raise ValueError(
            f"{op}: source must have a column {name}, got {', '.join(source.columns)}. "
            "Add it with transforms.priorities"
        )
    priority = source[name].double().cpu()
    if priority.dim() != 1:
        raise ValueError(
            f"{op}: {name} must have shape [{len(source)}], got {list(priority.shape)}"
        )
    check_priority(op, priority)
    return priority


def _with_replacement(count: int, n: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(count, (n,), generator=generator)


def _distinct(count: int, n: int, generator: torch.Generator | None) -> Tensor:
    """n different numbers below ``count``, in random order, in O(n)."""
    if count <= 4 * n:
        return torch.randperm(count, generator=generator)[:n]
    found = torch.zeros(0, dtype=torch.int64)
    while found.shape[0] < n:
        more = torch.randint(count, (2 * (n - found.shape[0]),), generator=generator)
        found = torch.cat([found, more]).unique()
    return found[torch.randperm(found.shape[0], generator=generator)[:n]]


def _all_rows(source: Source) -> Tensor:
    return torch.arange(source.oldest, source.oldest + len(source))


def _batch_count(rows: int, batch_size: int, drop_last: bool) -> int:
    return rows // batch_size if drop_last else -(-rows // batch_size)


def _batches_in(order: Tensor, batch_size: int, drop_last: bool) -> Sequence[Tensor]:
    return order.split(batch_size)[: _batch_count(order.shape[0], batch_size, drop_last)]


def _check_own(op: str, **given: object) -> None:
    """Refuses what a replay has of its own."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{op}: {name} must be None for a replay, which has its own, got {value!r}"
            )


def _check(op: str, source: Source, **counts: int) -> None:
    for name, count in counts.items():
        _check_int(op, name, count)
        if count < 1:
            raise ValueError(f"{op}: {name} must be at least 1, got {count}")
    _check_rows(op, source)


def _check_int(op: str, name: str, value: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{op}: {name} must be an int, got {value!r}")


def _check_beta(op: str, beta: float) -> None:
    if not 0 <= beta <= 1:
        raise ValueError(f"{op}: beta must be in [0, 1], got {beta}")


def _check_rows(op: str, source: Source) -> None:
    if not len(source):
        raise ValueError(f"{op}: source must have at least 1 row, got 0")

"""Plans choose rows of a trajectory or a replay, batch by batch.

A plan is walked as often as one likes; each walk draws anew. With a ``torch.Generator`` of a known
seed the same rows are drawn; without one they come from the replay's own seed, or from torch's
default generator. Unless said otherwise batches are in memory of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
        draws: Chooses all batches of one walk.
        fetch: Fetches what was chosen.
        batches: How many batches a walk has.
    """

    def __init__(
        self, draws: Callable[[], Iterable[Draw]], fetch: Callable[[Draw], Batch], batches: int
    ) -> None:
        self._draws = draws
        self._fetch = fetch
        self._batches = batches

    def __len__(self) -> int:
        """Number of batches of a walk."""
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        return map(self._fetch, self._draws())

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

        return Plan(draws, self._fetch, self._batches)


def full(source: Source) -> Plan:
    """All rows in one batch, oldest first.

    Args:
        source: A trajectory or a replay.

    Returns:
        The plan.

    Raises:
        ValueError: There are no rows.
    """
    _check_rows("full", source)
    return Plan(lambda: [Draw(_all_rows(source))], _rows_of(source), 1)


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
    _check("uniform", source, batch_size=batch_size, batches=batches)
    if not replace and batch_size > len(source):
        raise ValueError(
            f"uniform: batch_size must be at most {len(source)} without replace, got {batch_size}"
        )

    def draws() -> Iterator[Draw]:
        draw = _with_replacement if replace else _distinct
        for _ in range(batches):
            yield Draw(source.oldest + draw(len(source), batch_size, generator))

    return Plan(draws, _rows_of(source), batches)


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
    per_epoch = _batches_of(len(source), batch_size, drop_last)
    if not per_epoch:
        raise ValueError(
            f"epochs: batch_size must be at most {len(source)} with drop_last, got {batch_size}"
        )

    def draws() -> Iterator[Draw]:
        for _ in range(epochs):
            order = source.oldest + torch.randperm(len(source), generator=generator)
            yield from map(Draw, order.split(batch_size)[:per_epoch])

    return Plan(draws, _rows_of(source), epochs * per_epoch)


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
        rest = torch.zeros(0, dtype=torch.int64)
        for _ in range(batches):
            while rest.numel() < batch_size:
                rest = torch.cat([rest, torch.randperm(len(source), generator=generator)])
            yield Draw(source.oldest + rest[:batch_size])
            rest = rest[batch_size:]

    return Plan(draws, _rows_of(source), batches)


def prioritized(
    source: Trajectory | Replay,
    *,
    batch_size: int,
    batches: int = 1,
    by: Literal["priority", "rank"] = "priority",
    alpha: float = 0.6,
    beta: float = 0.4,
    generator: torch.Generator | None = None,
) -> Plan:
    """Rows in proportion to their priorities, or by their rank among them, stratified.

    A replay with priorities draws in proportion as its ``sample`` does, with its own alpha, beta
    and seed; its batches write priorities back (``batch.update_priority``). Otherwise priorities
    are those that stand there when the plan is made: the column ``priority`` of a trajectory, or
    those of the replay; making it costs O(N log N), each batch O(batch_size log N).

    Source: Schaul et al. 2016, arXiv:1511.05952, sections 3.3 and 3.4.

    Args:
        source: A trajectory with a column ``priority``, or a replay with priorities.
        batch_size: Rows of a batch.
        batches: How many.
        by: "priority": P(i) ~ priority^alpha; "rank": P(i) ~ 1 / rank(i)^alpha, the largest
            priority having rank 1.
        alpha: Exponent of priorities or ranks, at least 0.
        beta: Exponent of importance weights, in [0, 1], which are at most 1.
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is out of its range, or there are no rows or no priorities.
    """
    _check("prioritized", source, batch_size=batch_size, batches=batches)
    if by not in ("priority", "rank"):
        raise ValueError(f"prioritized: by must be 'priority' or 'rank', got {by!r}")
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"prioritized: alpha must be finite and at least 0, got {alpha}")
    _check_beta("prioritized", beta)
    fetch = _rows_of(source)
    if isinstance(source, Replay) and source.priority != "step":
        cure = ". Use plans.windows" if source.priority else ""
        raise ValueError(
            f"prioritized: source must have priority='step', got {source.priority!r}{cure}"
        )
    if isinstance(source, Replay) and by == "priority" and generator is None:
        return Plan(_own_draws(source, batch_size, batches), fetch, batches)
    if isinstance(source, Replay):
        masses = source.masses().double().cpu()
    else:
        masses = _priorities_in("prioritized", source, "priority")
    if by == "rank":
        rank = torch.empty(len(source), dtype=torch.float64)
        rank[masses.argsort(descending=True, stable=True)] = torch.arange(
            1, len(source) + 1, dtype=torch.float64
        )
        masses = rank**-alpha
    elif isinstance(source, Trajectory):
        masses = masses**alpha
    draws = _by_mass("prioritized", masses, batch_size, batches, beta, generator)
    return Plan(lambda: (Draw(source.oldest + d.index, d.weight) for d in draws()), fetch, batches)


def windows(
    source: Source,
    *,
    batch_size: int,
    length: int,
    burn_in: int = 0,
    batches: int = 1,
    priority: str | None = None,
    beta: float = 0.4,
    generator: torch.Generator | None = None,
) -> Plan:
    """Windows of successive steps within a segment, ``[length, batch_size, ...]``.

    A window begins at any step that has ``length`` steps left in its segment, or at the first step
    of a segment that is shorter: behind its end ``mask`` is False. Where a replay was made with
    ``window=length``, it draws them by their priorities with its own seed; otherwise all windows
    are equally likely, and making the plan costs O(N).

    Args:
        source: A trajectory, or a replay that keeps segments.
        batch_size: Windows of a batch.
        length: Steps, at least 1.
        burn_in: First steps that only warm up a recurrent state, in [0, length).
        batches: How many.
        priority: Column of a trajectory with the priority of the window that begins there.
        beta: Exponent of importance weights, with ``priority``.
        generator: Of the CPU.

    Returns:
        The plan.

    Raises:
        ValueError: A number is out of its range, or there are no rows.
    """
    _check("windows", source, batch_size=batch_size, length=length, batches=batches)
    if not 0 <= burn_in < length:
        raise ValueError(f"windows: burn_in must be in [0, {length}), got {burn_in}")
    _check_beta("windows", beta)
    if priority is not None and isinstance(source, Replay):
        raise ValueError(f"windows: priority must be None for a replay, got {priority!r}")

    def fetch(draw: Draw) -> Batch:
        return fetch_windows(source, draw.index, length, weight=draw.weight, burn_in=burn_in)

    own = isinstance(source, Replay) and source.window == length
    if isinstance(source, Replay) and own and generator is None:
        return Plan(_own_draws(source, batch_size, batches), fetch, batches)
    starts = source.window_starts(length).cpu()
    if isinstance(source, Replay) and own and source.priority:
        masses = source.masses().double().cpu()[starts - source.oldest]
    elif isinstance(source, Trajectory) and priority is not None:
        masses = _priorities_in("windows", source, priority)[starts]
    else:
        masses = torch.ones(starts.shape[0], dtype=torch.float64)
    draws = _by_mass("windows", masses, batch_size, batches, beta, generator)
    return Plan(lambda: (Draw(starts[d.index], d.weight) for d in draws()), fetch, batches)


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
    starts = source.segment_starts().cpu()
    sequences = starts.shape[0] // per_sequence
    if not sequences:
        raise ValueError(
            f"episodes: per_sequence must be at most {starts.shape[0]}, got {per_sequence}"
        )
    per_epoch = _batches_of(sequences, batch_size, drop_last)
    if not per_epoch:
        raise ValueError(
            f"episodes: batch_size must be at most {sequences} with drop_last, got {batch_size}"
        )

    def draws() -> Iterator[Draw]:
        for _ in range(epochs):
            count = starts.shape[0]
            order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
            chosen = starts[order[: sequences * per_sequence]].view(sequences, per_sequence)
            yield from map(Draw, chosen.split(batch_size)[:per_epoch])

    return Plan(draws, lambda draw: fetch_chains(source, draw.index), epochs * per_epoch)


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


def _own_draws(source: Replay, batch_size: int, batches: int) -> Callable[[], Iterator[Draw]]:
    """Draws that the replay makes itself, as it then is."""
    return lambda: (Draw(*source.draw(batch_size)) for _ in range(batches))


def _by_mass(
    op: str,
    masses: Tensor,
    batch_size: int,
    batches: int,
    beta: float,
    generator: torch.Generator | None,
) -> Callable[[], Iterator[Draw]]:
    """Draws in proportion to masses that stay as they are."""
    tree = SumTree(masses.shape[0], dtype=torch.float64, minimum=True)
    tree.leaves.copy_(masses)
    tree.rebuild_()
    least = tree.minimum()
    if least == float("inf"):
        raise ValueError(f"{op}: priority must be positive somewhere, got 0 everywhere")

    def draws() -> Iterator[Draw]:
        for _ in range(batches):
            # A generator's draws, not the tree's own: torch's default one if none is given.
            tree.seed, tree.calls = int(torch.randint(2**63 - 1, (), generator=generator)), 0
            index, mass, _ = tree.sample(batch_size)
            yield Draw(index, importance_weight(mass, 1, beta, least).float())

    return draws


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


def _batches_of(rows: int, batch_size: int, drop_last: bool) -> int:
    return rows // batch_size if drop_last else -(-rows // batch_size)


def _check(op: str, source: Source, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{op}: {name} must be at least 1, got {count}")
    _check_rows(op, source)


def _check_beta(op: str, beta: float) -> None:
    if not 0 <= beta <= 1:
        raise ValueError(f"{op}: beta must be in [0, 1], got {beta}")


def _check_rows(op: str, source: Source) -> None:
    if not len(source):
        raise ValueError(f"{op}: source must have at least 1 row, got 0")

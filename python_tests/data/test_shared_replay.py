"""``SharedReplay`` in one process, and in several at once."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data import workers
from data.workers import Worker, assert_whole, facts, rows
from machin_fast.data import Replay, SharedReplay, Trajectory, plans

LIKE = rows(0, 1)


@dataclass
class World:
    """Replays, and other processes that have them, too."""

    replays: dict[str, SharedReplay]
    writers: list[Worker]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for all tests, as processes take seconds to start; each has its own replay."""
    step: dict[str, Any] = {
        "like": LIKE,
        "priority": "step",
        "alpha": 1.0,
        "epsilon": 0.0,
        "seed": 3,
    }
    window: dict[str, Any] = {"like": LIKE, "priority": "window", "window": 3}
    replays = {
        "rows": SharedReplay(12, like=LIKE),
        "priorities": SharedReplay(8, **step),
        "draws": SharedReplay(12, **step, beta=0.0, beta_steps=10),
        "uniform draws": SharedReplay(12, like=LIKE, seed=3),
        "windows": SharedReplay(12, **window, seed=3),
        "errors": SharedReplay(8, like=LIKE),
        "cleared": SharedReplay(8, **step),
        "saved": SharedReplay(8, **step),
        "crowded": SharedReplay(64, **step, beta=0.0, beta_steps=10**6),
        "walked rows": SharedReplay(16, **step, evict="segment"),
        "walked windows": SharedReplay(16, **window),
        "turns": SharedReplay(12, like=LIKE),
        "taken turns": SharedReplay(12, **step),
        "end of the walks": SharedReplay(1, like=LIKE),
    }
    world = World(replays, [Worker(replays) for _ in range(2)])
    yield world
    for worker in world.writers:
        worker.close()
    assert [worker.end() for worker in world.writers] == [0, 0]


# -- several processes -------------------------------------------------------------------------


def test_all_processes_see_what_one_of_them_appends(world):
    replay, (one, other) = world.replays["rows"], world.writers
    assert facts({"rows": replay}, "rows")["appended"] == 0

    def assert_seen(first: int, last: int) -> None:
        expected = {"appended": last, "oldest": first, "stale": 0, "beta": 0.4}
        expected["numbers"] = list(range(first, last))
        assert facts(world.replays, "rows") == expected
        assert [worker.call(facts, "rows") for worker in (one, other)] == [expected] * 2

    one.call(workers.append, "rows", 0, 5)
    assert_seen(0, 5)
    replay.append(**rows(5, 4))
    assert_seen(0, 9)
    other.call(workers.append, "rows", 9, 8)  # wraps around
    assert_seen(5, 17)
    one.call(workers.append, "rows", 17, 30)  # more than there is room for
    assert_seen(35, 47)


def test_all_processes_see_and_set_priorities(world):
    replay, (one, other) = world.replays["priorities"], world.writers
    one.call(workers.append, "priorities", 0, 10)
    other.call(workers.update_priority, "priorities", [0, 5, 6], [9.0, 4.0, 0.5])
    replay.update_priority(torch.tensor([2, 1, 9]), torch.tensor([2.0, 9.0, 0.25]))
    one.call(workers.append, "priorities", 10, 1)  # takes the place of 2, at the largest so far
    expected = {"appended": 11, "oldest": 3, "stale": 2, "beta": 0.4, "largest": 4.0}
    expected["numbers"] = list(range(3, 11))
    expected["masses"] = [1.0, 1.0, 4.0, 0.5, 1.0, 1.0, 0.25, 4.0]
    assert facts(world.replays, "priorities") == expected
    assert [worker.call(facts, "priorities") for worker in (one, other)] == [expected] * 2
    for row in range(3, 11):
        if row != 7:
            other.call(workers.update_priority, "priorities", [row], [0.0])
    assert replay.sample(20).index.tolist() == [7] * 20
    assert one.call(workers.sample, "priorities", 20)[0] == [7] * 20


@pytest.mark.parametrize("name", ["draws", "uniform draws"])
def test_processes_draw_in_turn_what_one_would_have_drawn(name, world):
    alone = (
        Replay(12, priority="step", alpha=1.0, epsilon=0.0, beta=0.0, beta_steps=10, seed=3)
        if name == "draws"
        else Replay(12, seed=3)
    )
    alone.append(**rows(0, 20))
    world.writers[0].call(workers.append, name, 0, 20)
    for turn in range(12):
        n = 7 + turn % 2
        expected = alone.sample(n)
        if turn % 3 == 2:
            drawn = workers.sample(world.replays, name, n)
        else:
            drawn = world.writers[turn % 3].call(workers.sample, name, n)
        assert drawn == (expected.index.tolist(), expected.weight.tolist())
        if name == "draws":
            priority = expected.index % 4 + 0.5
            alone.update_priority(expected.index, priority)
            world.replays[name].update_priority(expected.index, priority)


def test_segments_of_one_process_are_windows_and_episodes_of_another(world):
    replay, (one, other) = world.replays["windows"], world.writers
    one.call(workers.append_episodes, "windows", [5, 4, 2, 4])  # the first leaves again
    segments = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14]]
    possible = [[5, 6, 7], [6, 7, 8], [9, 10, 10], [11, 12, 13], [12, 13, 14]]
    seen = other.call(workers.sample_windows, "windows", 50)
    seen += workers.sample_windows(world.replays, "windows", 50)
    assert sorted(map(list, set(map(tuple, seen)))) == possible
    (batch,) = plans.windows(replay, batch_size=50, length=3)
    batch.update_priority((batch.index == 9).double())
    other.call(workers.update_priority, "windows", [5, 6, 11, 12], [0.0] * 4)
    other.call(workers.update_priority, "windows", [7, 8, 10, 13, 14], [9.0] * 5)  # begin none
    (batch,) = plans.episodes(replay, batch_size=5, shuffle=False)
    assert batch.mask is not None
    found = [
        rows[real].tolist() for rows, real in zip(batch.number.t(), batch.mask.t(), strict=True)
    ]
    assert found == segments
    masses = one.call(facts, "windows")["masses"]
    assert masses == replay.masses().tolist()
    assert masses.index(max(masses)) == 4  # row 9; the others weigh next to nothing
    assert [mass == 0 for mass in masses] == [row not in (5, 6, 9, 11, 12) for row in range(5, 15)]
    assert replay.max_priority == 1


def test_an_error_within_a_call_lets_the_others_go_on(world):
    worker = world.writers[0]
    with pytest.raises(ValueError, match=r"Replay.append: columns must be number, .*, got number"):
        worker.call(workers.append_badly, "errors")
    with pytest.raises(ValueError, match="the memory must hold at least 1 row, got 0"):
        worker.call(workers.sample, "errors", 1)
    with pytest.raises(IndexError, match=r"index must be in \[0, 0\), got 7"):
        world.replays["errors"].rows(torch.tensor([7]))
    world.replays["errors"].append(**rows(0, 2))
    worker.call(workers.append, "errors", 2, 3)
    assert len(world.replays["errors"]) == 5


def test_all_processes_see_that_one_has_cleared(world):
    replay, (one, other) = world.replays["cleared"], world.writers
    replay.append(**rows(0, 10))
    replay.update_priority(torch.tensor([9]), torch.tensor([7.0]))
    one.call(workers.clear, "cleared")
    assert len(replay) == 0 and replay.max_priority == 1
    other.call(workers.append, "cleared", 10, 3)
    assert facts(world.replays, "cleared")["numbers"] == [10, 11, 12]
    assert replay.masses().tolist() == [1.0, 1.0, 1.0]


def test_what_one_process_loads_all_have(world, tmp_path):
    replay, (one, other) = world.replays["saved"], world.writers
    path = str(tmp_path / "replay")
    replay.append(**rows(0, 11))
    replay.update_priority(torch.tensor([4, 10]), torch.tensor([3.0, 0.5]))
    one.call(workers.save, "saved", path)
    before, state = facts(world.replays, "saved"), replay.state_dict()
    drawn = replay.sample(9).index.tolist()
    replay.append(**rows(11, 5))
    other.call(workers.load, "saved", path)
    assert facts(world.replays, "saved") == one.call(facts, "saved") == before
    assert one.call(workers.sample, "saved", 9)[0] == drawn
    replay.append(**rows(11, 5))
    replay.load_state_dict(state)
    assert other.call(facts, "saved") == before
    assert other.call(workers.sample, "saved", 9)[0] == drawn


def test_rows_stay_whole_while_two_write_and_three_sample(world):
    replay, blocks, n = world.replays["crowded"], 400, 7
    firsts = [0, 100_000]
    priority = (
        0.5 + torch.arange(100) / 256
    )  # of a row by its number; less than 1, what all enter with
    replay.append(**rows(200_000, 1))
    for writer, first in zip(world.writers, firsts, strict=True):
        writer.begin(workers.write_and_sample, "crowded", first, blocks, n)
    samples = 0
    while samples < 100 or not all(writer.is_done() for writer in world.writers):
        batch = replay.sample(32)
        samples += 1
        assert_whole(batch)
        batch.update_priority(priority[batch.number % 100])
    for writer in world.writers:
        writer.result()

    seen = facts(world.replays, "crowded")
    assert seen == world.writers[0].call(facts, "crowded")
    assert seen["appended"] == 1 + 2 * blocks * n
    assert seen["oldest"] == seen["appended"] - 64
    assert round(seen["beta"] * 10**6) == samples + 2 * blocks
    # The last rows of both, in the order they were written, and in whole blocks.
    for first in firsts:
        mine = [number for number in seen["numbers"] if number // 100_000 == first // 100_000]
        end = first + blocks * n
        assert mine == list(range(end - len(mine), end))
    blocks_of = [(number // 100_000, number % 100_000 // n) for number in seen["numbers"][64 % n :]]
    assert all(len(set(blocks_of[i : i + n])) == 1 for i in range(0, len(blocks_of), n))
    # No priority went to a row that took the place of the one it was for.
    for number, mass in zip(seen["numbers"], seen["masses"], strict=True):
        assert mass in (1.0, priority[number % 100].item())


# Plans of which nothing is missing, whoever appends: those whose draws are new ones, and others
# in one batch. Each batch is fetched as soon as it is drawn.
WALKS: dict[str, Callable[[SharedReplay, SharedReplay], plans.Plan]] = {
    "full": lambda rows, windows: plans.full(rows),
    "uniform": lambda rows, windows: plans.uniform(rows, batch_size=8, batches=3),
    "uniform, distinct": lambda rows, windows: plans.uniform(
        rows, batch_size=4, batches=3, replace=False
    ),
    "epochs": lambda rows, windows: plans.epochs(rows, batch_size=16),
    "cycle": lambda rows, windows: plans.cycle(rows, batch_size=20, batches=1),
    "prioritized": lambda rows, windows: plans.prioritized(rows, batch_size=8, batches=3),
    "prioritized, rank": lambda rows, windows: plans.prioritized(rows, batch_size=8, by="rank"),
    "windows": lambda rows, windows: plans.windows(windows, batch_size=8, length=3, batches=3),
    "windows, length": lambda rows, windows: plans.windows(windows, batch_size=8, length=2),
    "episodes": lambda rows, windows: plans.episodes(windows, batch_size=16),
    "shard": lambda rows, windows: plans.uniform(rows, batch_size=8, batches=3).shard(1, 2),
}


def test_plans_miss_nothing_while_another_process_appends(world):
    names = ["walked rows", "walked windows"]
    sources = [world.replays[name] for name in names]
    for name in names:
        workers.append_episodes(world.replays, name, [3, 1, 5])
    made = {name: make(*sources) for name, make in WALKS.items()}
    writer = world.writers[0]
    writer.begin(workers.append_until, names, "end of the walks")
    try:
        for name, plan in made.items():
            before = min(source.appended for source in sources)
            walks = 0
            # 300 of each, and so long that rows have left between steps of a walk.
            while walks < 300 or min(source.appended for source in sources) < before + 500:
                for batch in plan:
                    assert_whole(batch)
                    if name in ("uniform", "prioritized", "windows"):
                        batch.update_priority((batch.index % 4).double())
                    if batch.mask is not None:
                        rows = batch.number - batch.index
                        expected = torch.minimum(
                            torch.arange(rows.shape[0])[:, None], batch.mask.sum(0) - 1
                        )
                        assert torch.equal(rows, expected), name
                walks += 1
    finally:
        world.replays["end of the walks"].append(**LIKE)
        writer.result()


CALLS: dict[str, Callable[[SharedReplay], object]] = {
    "__len__": lambda replay: len(replay),
    "turn": lambda replay: replay.turn().__enter__(),
    "append": lambda replay: replay.append(**LIKE),
    "sample": lambda replay: replay.sample(1),
    "sample_windows": lambda replay: replay.sample_windows(1),
    "windows": lambda replay: replay.windows(torch.tensor([0])),
    "draw": lambda replay: replay.draw(1),
    "rows": lambda replay: replay.rows(torch.tensor([0])),
    "left": lambda replay: replay.left(torch.tensor([0])),
    "segment_starts": lambda replay: replay.segment_starts(),
    "window_starts": lambda replay: replay.window_starts(2),
    "masses": lambda replay: replay.masses(),
    "update_priority": lambda replay: replay.update_priority(torch.tensor([0]), torch.ones(1)),
    "clear": lambda replay: replay.clear(),
    "state_dict": lambda replay: replay.state_dict(),
    "load_state_dict": lambda replay: replay.load_state_dict({}),
    "save": lambda replay: replay.save("nowhere"),
    "load": lambda replay: replay.load("nowhere"),
}


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(TimeoutError) as caught:
        call()
    return str(caught.value)


def shared_memory() -> set[str]:
    place = Path("/dev/shm")  # elsewhere on systems other than Linux
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


def test_a_process_that_dies_within_a_call_lets_the_others_fail_and_leaves_nothing_behind():
    before = shared_memory()
    replay = SharedReplay(8, like=LIKE, priority="window", window=3, timeout=0.3)
    lock = replay._lock._semlock.name.removeprefix("/")
    assert f"sem.{lock}" in shared_memory() or not before  # what is ours would be found
    worker = Worker({"it": replay})
    worker.call(workers.append, "it", 0, 4)
    walk = iter(plans.windows(replay, batch_size=1, length=3))
    with pytest.raises((EOFError, ConnectionError)):
        worker.call(workers.die_within_a_call, "it")
    assert worker.end() == -signal.SIGKILL

    calls: list[Callable[[], object]] = [partial(call, replay) for call in CALLS.values()]
    calls.append(partial(next, walk))
    with ThreadPoolExecutor(len(calls)) as threads:  # each waits for its timeout
        complaints = list(threads.map(complaint, calls))
    assert complaints == len(calls) * [
        "SharedReplay: other processes must end their calls within 0.3 s, "
        "got none that did. One may have died within a call"
    ]
    assert replay.appended == 4

    del walk, calls
    del replay
    gc.collect()
    # Others may come and go at the same time.
    ours = (str(os.getpid()), str(worker.process.pid), lock)
    left = shared_memory() - before
    assert [name for name in left if any(owner in name for owner in ours)] == []


def test_every_call_that_reads_or_writes_takes_its_turn():
    inherited = {
        name
        for name, value in vars(Replay).items()
        if callable(value) and not name.startswith("_") and not isinstance(value, property)
    }
    assert inherited - {"nbytes"} == set(CALLS) - {"__len__"}
    assert set(CALLS) <= set(vars(SharedReplay))


def test_a_turn_is_of_several_calls(world):
    replay, (one, other) = world.replays["turns"], world.writers
    with replay.turn():
        one.begin(workers.append, "turns", 2, 3)
        replay.append(**rows(0, 1))
        with replay.turn():
            replay.append(**rows(1, 1))
        assert not one.is_done(within=0.3)
        assert [len(replay), replay.sample(9).number.max() < 2] == [2, True]
        assert replay.rows(torch.arange(2)).number.tolist() == [0, 1]
    one.result()
    assert facts(world.replays, "turns")["numbers"] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError), replay.turn():
        raise KeyError  # ends the turn
    other.call(workers.append, "turns", 5, 1)
    assert len(replay) == 6


def test_a_plan_keeps_its_turn_for_a_batch_at_a_time(world):
    replay, (one, other) = world.replays["taken turns"], world.writers
    replay.append(**rows(0, 1))
    for plan in (
        plans.uniform(replay, batch_size=1, batches=3),
        plans.prioritized(replay, batch_size=1, batches=3),
        plans.cycle(replay, batch_size=1, batches=3),
    ):
        for worker, _ in zip((one, other, one), plan, strict=True):  # while a batch is learned from
            worker.call(workers.append, "taken turns", replay.appended, 1)
    assert facts(world.replays, "taken turns")["numbers"] == list(range(10))


# -- one process -------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [None, "step"])
def test_it_draws_as_a_replay_of_the_same_seed(priority):
    plain = Replay(10, priority=priority, seed=5)
    shared = SharedReplay(10, like=LIKE, priority=priority, seed=5)
    for first in range(0, 30, 6):
        for replay in (plain, shared):
            replay.append(**rows(first, 6))
        expected, batch = plain.sample(8), shared.sample(8)
        assert torch.equal(batch.index, expected.index)
        assert torch.equal(batch.weight, expected.weight)
        assert_whole(batch)
        if priority:
            for each in (expected, batch):
                each.update_priority(each.index.double() + 1)


def test_like_says_names_dtypes_and_shapes():
    like = {
        "state": {"goal": np.zeros((3, 2), np.float32), "image": torch.zeros(0, 4, 4).byte()},
        "reward": [1.0, 2.0],
    }
    replay = SharedReplay(6, like=like)
    assert len(replay) == 0 and replay.appended == 0
    full = {"state": {"goal": torch.ones(2, 2), "image": torch.ones(2, 4, 4).byte()}}
    replay.append(**full, reward=torch.tensor([1.0, 2.0]))
    assert list(replay.columns) == ["state/goal", "state/image", "reward"]
    assert all(column.is_shared() for column in replay.columns.values())
    with pytest.raises(TypeError, match=r"reward must be torch.float32, got torch.float64"):
        replay.append(**full, reward=torch.ones(2).double())


def test_a_batch_is_memory_of_the_process_that_sampled_it():
    replay = SharedReplay(6, like=LIKE)
    replay.append(**rows(0, 6))
    assert not any(column.is_shared() for column in replay.sample(3).columns.values())


def test_a_trajectory_can_be_appended():
    replay = SharedReplay(6, like=LIKE, evict="segment")
    replay.append(Trajectory(rows(0, 5), [0, 2, 5]))
    assert replay.segment_starts().tolist() == [0, 2]
    assert replay.left(torch.tensor([0, 1, 2, 3])).tolist() == [2, 1, 3, 2]
    assert replay.window_starts(3).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"like": {"state": torch.zeros(1), "note": [{}]}}, ValueError,
         "SharedReplay: note must be a tensor or array, got a list"),
        ({"like": {"state": torch.zeros(1, 3)}, "frames": ("state",)}, ValueError,
         r"SharedReplay: frames must not be given, got \('state',\)"),
        ({"device": "cuda"}, ValueError, "SharedReplay: device must not be given, got 'cuda'"),
        ({"device": "cpu"}, ValueError, "SharedReplay: device must not be given, got 'cpu'"),
        ({"memory": "plain"}, ValueError, "SharedReplay: memory must not be given, got 'plain'"),
        ({"window": 3, "evict": "step"}, ValueError,
         "Replay: evict must be 'segment' with a window, got 'step'"),
        ({"like": {"state": 1.0}}, ValueError, r"SharedReplay: state must be \[n, ...\], got a"),
        ({"like": {}}, ValueError, "columns must be at least 1, got 0"),
        ({"like": {"index": torch.zeros(1)}}, ValueError, "index must not be a column"),
        ({"capacity": 0}, ValueError, "Replay: capacity must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        SharedReplay(**{"capacity": 4, "like": LIKE, **settings})

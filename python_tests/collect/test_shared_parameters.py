"""``SharedParameters`` in one process, and with readers and writers that are killed."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

import pytest
import torch
from torch import nn

from machin_fast.collect.shared_parameters import SharedParameters

WAIT = 60.0


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_a_module_gets_what_another_published() -> None:
    learner, worker = module(), module()
    shared = SharedParameters(learner)
    assert shared.version == 0
    assert shared.update(worker) == 0

    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(torch.randn_like(parameter))
    learner(torch.randn(8, 3))  # moves the statistics and the counter of batches, an int64
    assert not same(learner, worker)
    assert shared.publish(learner) == 1
    assert shared.update(worker) == 1
    assert same(learner, worker)


def test_a_module_is_given_each_version_once() -> None:
    learner, worker, other = module(), module(), module()
    shared = SharedParameters(learner)
    shared.publish(learner)
    assert shared.update(worker) == 1
    with torch.no_grad():
        worker[0].weight.zero_()  # type: ignore[operator, union-attr]
    assert shared.update(worker) == 1
    assert not same(learner, worker)
    assert shared.update(other) == 1
    assert shared.publish(learner) == 2
    assert shared.update(worker) == 2
    assert same(learner, worker)
    assert shared.read(newer_than=2) == (2, None)


def test_the_lag_is_the_number_of_later_versions() -> None:
    shared = SharedParameters(module())
    for _ in range(3):
        shared.publish(module())
    assert (shared.version, shared.lag(3), shared.lag(1)) == (3, 0, 2)


def test_what_was_read_stays_as_it_was() -> None:
    shared = SharedParameters({"x": torch.zeros(3)})
    shared.publish({"x": torch.ones(3)})
    version, state = shared.read()
    shared.publish({"x": torch.full((3,), 2.0)})
    assert version == 1
    assert state is not None
    assert state["x"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex128]
)
def test_dtypes_and_sizes_stand_side_by_side(dtype: torch.dtype) -> None:
    state = {
        "odd": torch.ones(3, dtype=torch.uint8),
        "scalar": torch.tensor(1, dtype=dtype),
        "none": torch.zeros(0, 2, dtype=dtype),
        "strided": torch.tensor([[1, 0], [0, 1], [1, 1]]).to(dtype).T,
    }
    shared = SharedParameters(state)
    shared.publish(state)
    _, got = shared.read()
    assert got is not None
    assert list(got) == list(state)
    for name, tensor in state.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        ({"x": torch.zeros(2)}, "the parameters that this was made for, got none named 'y'"),
        (
            {"x": torch.zeros(2), "y": torch.zeros(3), "z": torch.zeros(1)},
            "the parameters that this was made for, got 'z' as well",
        ),
        ({"x": torch.zeros(2), "y": torch.zeros(3, 1)}, r"y must have shape \[3\], got \[3, 1\]"),
        (
            {"x": torch.zeros(2), "y": torch.zeros(3).double()},
            "y must be torch.float32, got torch.float64",
        ),
    ],
)
def test_other_parameters_are_refused_by_name(other: dict[str, torch.Tensor], fault: str) -> None:
    shared = SharedParameters({"x": torch.zeros(2), "y": torch.zeros(3)})
    shared.publish({"x": torch.ones(2), "y": torch.ones(3)})
    with pytest.raises(ValueError, match=f"SharedParameters.publish: .*{fault}"):
        shared.publish(other)
    assert shared.version == 1
    _, state = shared.read()
    assert state is not None
    assert state["x"].tolist() == [1, 1]


def test_a_module_of_another_form_is_refused_and_stays_as_it_is() -> None:
    shared = SharedParameters(nn.Linear(3, 4))
    shared.publish(nn.Linear(3, 4))
    other = nn.Linear(3, 5)
    before = other.weight.clone()
    fault = r"SharedParameters.update: weight must have shape \[4, 3\], got \[5, 3\]"
    with pytest.raises(ValueError, match=fault):
        shared.update(other)
    assert torch.equal(other.weight, before)


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="SharedParameters: extra must be a tensor, got dict"):
        SharedParameters({"extra": {}})


def test_it_travels_only_to_a_process_that_starts() -> None:
    shared = SharedParameters(module())
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(shared)
    shared.close()
    shared.close()
    assert shared.publish(module()) == 1


# -- other processes ---------------------------------------------------------------------------

BIG = {f"layer {i}": torch.zeros(100, 101) for i in range(8)}


def of_version(version: int) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, float(version)) for name, tensor in BIG.items()}


def is_whole(version: int, state: dict[str, torch.Tensor]) -> bool:
    return all(bool((tensor == float(version)).all()) for tensor in state.values())


def read_for_ever(shared: SharedParameters, pipe: Connection) -> None:
    """Reports (versions read, whether the last was whole)."""
    torch.set_num_threads(1)
    version = 0
    for read in range(1, 10**9):
        seen = version
        while version == seen:
            version, state = shared.read(newer_than=seen)
        assert state is not None
        pipe.send((read, is_whole(version, state)))


def publish_for_ever(shared: SharedParameters) -> None:
    torch.set_num_threads(1)
    while True:
        shared.publish(of_version(shared.version + 1))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["machin_fast.collect.shared_parameters"])
    return context


@pytest.fixture
def started(processes: ForkServerContext) -> Iterator[Any]:
    """Starts processes that are killed after the test."""
    running = []

    def start(target: Any, *arguments: Any) -> Any:
        process = processes.Process(target=target, args=arguments, daemon=True)
        process.start()
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.join(WAIT)


def test_readers_see_whole_versions_while_one_of_them_is_killed(started: Any) -> None:
    shared = SharedParameters(BIG)
    pipes, readers = [], []
    for _ in range(2):
        here, there = multiprocessing.Pipe(duplex=False)
        readers.append(started(read_for_ever, shared, there))
        there.close()
        pipes.append(here)

    def until_each_read(times: int, of: list[Connection]) -> None:
        done: set[Connection] = set()
        while len(done) < len(of):
            shared.publish(of_version(shared.version + 1))
            for pipe in of:
                while pipe.poll():
                    read, whole = pipe.recv()
                    assert whole
                    if read >= times:
                        done.add(pipe)

    until_each_read(20, pipes)
    readers[0].kill()
    readers[0].join(WAIT)
    read_before = 0
    while pipes[1].poll():
        read_before, _ = pipes[1].recv()
    until_each_read(read_before + 20, pipes[1:])


def test_a_killed_writer_leaves_the_last_whole_version(started: Any) -> None:
    shared = SharedParameters(BIG)
    for _ in range(3):
        before = shared.version
        writer = started(publish_for_ever, shared)
        while shared.version < before + 5:
            pass
        writer.kill()  # most of its time is spent within publish
        writer.join(WAIT)
        version, state = shared.read(newer_than=before)
        assert state is not None
        assert is_whole(version, state)
        assert version == shared.version
        assert shared.publish(of_version(version + 1)) == version + 1

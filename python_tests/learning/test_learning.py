"""Every algorithm and mode reaches its score, on real environments, within its steps.

Two runs at a time, each on one core; a test waits for its own.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest
import torch

from learning.runs import RUNS, Outcome, train
from machin_fast import algorithms


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.function is test_it_reaches_the_goal
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield {name: pool.submit(train, RUNS[name], 0) for name in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RUNS)
def test_it_reaches_the_goal(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[name].result()
    assert outcome.scores[-1][1] >= RUNS[name].goal, outcome.scores


def test_every_algorithm_has_a_run() -> None:
    names = {run.algorithm for run in RUNS.values()}
    assert names == set(algorithms.__all__) - {"TorchFramework"}

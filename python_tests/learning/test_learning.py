"""Every algorithm and mode reaches its score, on real environments, within its steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from learning.runs import RUNS, train
from machin_fast import algorithms


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Batches are small, and tests may run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RUNS)
def test_it_reaches_the_goal(name: str) -> None:
    outcome = train(RUNS[name], 0)
    assert outcome.scores[-1][1] >= RUNS[name].goal, outcome.scores


def test_every_algorithm_has_a_run() -> None:
    names = {run.algorithm for run in RUNS.values()}
    assert names == set(algorithms.__all__) - {"TorchFramework"}

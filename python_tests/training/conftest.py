"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from machin_fast.training import Hooks
from machin_fast.training.learning_curve import LearningCurve


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Small networks are quicker so, above all where other work shares the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no learning curve: matplotlib takes a second."""
    monkeypatch.setattr(LearningCurve, "on_end", Hooks.on_end)

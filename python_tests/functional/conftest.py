"""What the tests of functions share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same numbers in each test, whichever ran before it."""
    torch.manual_seed(0)

"""What commands change in their process is undone."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads():
    """Experiments set torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)

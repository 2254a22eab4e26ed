"""What settings refuse."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from machin_fast.training import Settings, seed_everything


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ({"rollout": 2.5}, "rollout must be a whole number, at least 1, got 2.5"),
        ({"warm_up": -1}, "warm_up must be a whole number, at least 0, got -1"),
        ({"updates": True}, "updates must be a whole number, at least 1, got True"),
        ({"epsilon_end": 1.5}, "epsilon_end must be in [0, 1], got 1.5"),
        ({"epsilon_start": math.nan}, "epsilon_start must be in [0, 1], got nan"),
        ({"noise": -0.1}, "noise must be at least 0, got -0.1"),
        ({"goal": math.nan}, "goal must be a number, got nan"),
        ({"goal": 1.0, "evaluation_every": 0}, "evaluation_every must be at least 1 to reach"),
    ],
)
def test_numbers_out_of_their_ranges(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"Settings: {message}")):
        Settings(**changes)


def test_they_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().steps = 3  # type: ignore[misc]


def test_seeds() -> None:
    import random

    import numpy as np
    import torch

    def draw() -> tuple[float, ...]:
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    seed_everything(3)
    first = draw()
    assert draw() != first
    seed_everything(3)
    assert draw() == first
    with pytest.raises(ValueError, match=r"seed must be in \[0, 4294967296\), got -1"):
        seed_everything(-1)

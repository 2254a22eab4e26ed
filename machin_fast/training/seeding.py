"""Seeds."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds the global random generators of torch (of all devices), numpy and Python.

    Call it before networks are made: their first parameters are drawn.

    Args:
        seed: From 0 to 2**32 - 1.

    Raises:
        ValueError: It is out of that range; nothing is seeded.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything: seed must be in [0, {2**32}), got {seed}")
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (Machin's buffers draw from it)
    random.seed(seed)

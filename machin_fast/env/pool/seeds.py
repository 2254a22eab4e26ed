"""Seeds of environments: they follow from the pool's, not from who steps what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def independent_seeds(seed: int | None, n: int) -> list[int]:
    """One seed for each of n environments, from one ``SeedSequence``."""
    return [_number(child) for child in np.random.SeedSequence(seed).spawn(n)]


def advanced_seed(seed: int | None, restarts: int) -> int:
    """The seed of an environment that replaces a lost one.

    Another than before, as the same would lead to the same end; the same for equal histories.
    """
    return _number(np.random.SeedSequence(seed, spawn_key=(restarts,)))


def seeds_of_reset(seed: int | Sequence[int | None] | None, n: int) -> list[int | None]:
    """What each environment is reset with, by Gymnasium's convention: ``seed + i``.

    Raises:
        ValueError: A sequence has not n seeds.
    """
    if seed is None:
        return [None] * n
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(n)]
    seeds = [None if one is None else int(one) for one in seed]
    if len(seeds) != n:
        raise ValueError(f"ActorPool.reset: seed must be of {n} environments, got {len(seeds)}")
    return seeds


def _number(sequence: np.random.SeedSequence) -> int:
    # Some environments take no more than 31 bits.
    return int(sequence.generate_state(1, np.uint32)[0]) >> 1

"""``uniform_rows`` against SplitMix64 in whole numbers of any size."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from machin_fast._extension import library
from machin_fast.data import Replay
from machin_fast.data.draws import uniform_rows

CPU = torch.device("cpu")
WORD = (1 << 64) - 1
SEEDS = [0, 1, 12345, 2**63 - 1, -1, -(2**63)]
CALLS = [0, 1, 10**6]


def mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def seed_of(seed: int, call: int) -> int:
    return mixed((mixed(seed & WORD) + call * 0xD1342543DE82EF95) & WORD)


def expected_rows(seed: int, call: int, n: int, low: int, high: int) -> list[int]:
    """SplitMix64's outputs for a seed of their own; 53 bits of each become a row."""
    state = seed_of(seed, call)
    rows = []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & WORD
        fraction = (mixed(state) >> 11) / 2**53
        rows.append(low + min(int(fraction * (high - low)), high - low - 1))
    return rows


def test_the_reference_is_splitmix64():
    # The first outputs of the author's own program for the seed 1234567,
    # https://prng.di.unimi.it/splitmix64.c.
    state, outputs = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & WORD
        outputs.append(mixed(state))
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("call", CALLS)
def test_each_call_has_a_seed_of_its_own(seed, call):
    assert library.seed_of_call(seed, call) & WORD == seed_of(seed, call)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 10), (7, 8), (10**6, 10**6 + 37), (5, 2**31 + 5), (0, 2**60)]
)
def test_rows_are_those_of_the_reference(seed, call, low, high, device):
    got = uniform_rows(seed, call, 33, low, high, device)
    assert got.dtype == torch.int64 and got.device.type == device.type
    assert got.tolist() == expected_rows(seed, call, 33, low, high)


def test_a_replay_draws_these_rows(device):
    replay = Replay(8, seed=77, device=device)
    replay.append(number=torch.arange(13, device=device))
    for call in range(3):
        assert replay.sample(20).number.tolist() == expected_rows(77, call, 20, 5, 13)


def test_no_rows_are_fine(device):
    assert uniform_rows(1, 0, 0, 0, 5, device).shape == (0,)


def test_more_draws_begin_with_the_fewer():
    few, many = (uniform_rows(3, 1, n, 0, 1000, CPU) for n in (5, 50))
    assert torch.equal(many[:5], few)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (100, 107), (2**40, 2**40 + 3)])
def test_rows_stay_within_their_bounds_and_reach_them(low, high):
    drawn = set(uniform_rows(5, 2, 1000, low, high, CPU).tolist())
    assert drawn == set(range(low, high))


def test_rows_are_equally_likely(device):
    drawn = Counter(uniform_rows(11, 0, 100_000, 3, 13, device).tolist())
    assert set(drawn) == set(range(3, 13))
    chi_square = sum((count - 10_000) ** 2 / 10_000 for count in drawn.values())
    assert chi_square < 27.9  # 9 degrees of freedom, p = 0.001


def test_successive_calls_are_independent():
    draws = torch.stack([uniform_rows(11, call, 1000, 0, 4, CPU) for call in range(100)])
    pairs = Counter((draws[:-1] * 4 + draws[1:]).flatten().tolist())
    expected = 99_000 / 16
    chi_square = sum((pairs[pair] - expected) ** 2 / expected for pair in range(16))
    assert chi_square < 37.7  # 15 degrees of freedom, p = 0.001

"""Columns of mean 0 and deviation 1, by group."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch.testing import assert_close

from data.transforms.trajectories import LENGTHS, expected, left_alone, machina, trajectory
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory


def test_machinas_centred_advantages(device):
    given = machina(device, "advantage")
    done = transforms.normalize("advantage")(given)
    assert_close(done["advantage"], expected("centred", device), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per", ["all", "segment", "env"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_each_group_has_its_own_mean_and_deviation(lengths, per, device):
    given = trajectory(lengths, device=device)
    env = torch.arange(len(given), device=device) % 3 * 7 - 5
    with left_alone(given.with_columns(env=env)) as given:
        done = transforms.normalize("reward", per, eps=1e-3)(given)
    group = {"all": [0] * len(given), "segment": given.segment_of_row.tolist(), "env": env.tolist()}
    for each in set(group[per]):
        rows = [i for i, number in enumerate(group[per]) if number == each]
        values = given["reward"][rows].tolist()
        mean, std = statistics.fmean(values), statistics.pstdev(values)
        wanted = [(value - mean) / (std + 1e-3) for value in values]
        assert_close(done["reward"][rows].tolist(), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("per", ["all", "segment"])
def test_each_dimension_is_on_its_own(per, device):
    given = trajectory([50], device=device, dtype=torch.float32)
    shifted = given.with_columns(action=given["action"] * 100 + 1e4)
    done = transforms.normalize("action", per)(shifted)["action"]
    assert done.dtype == torch.float32
    assert_close(done.mean(0).tolist(), [0.0, 0.0], rtol=0, atol=1e-5)
    assert_close(done.std(0, correction=0).tolist(), [1.0, 1.0], rtol=0, atol=1e-5)


def test_a_constant_column_becomes_zeros():
    for per in ("all", "segment"):
        done = transforms.normalize("x", per)(Trajectory({"x": torch.full((5,), 0.1)}))
        assert done["x"].tolist() == [0] * 5


def test_integers_become_float32():
    done = transforms.normalize("x")(Trajectory({"x": torch.tensor([1, 3])}))
    assert done["x"].dtype == torch.float32
    assert_close(done["x"], torch.tensor([-1.0, 1.0]), rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused():
    given = trajectory([3])
    with pytest.raises(ValueError, match=r"transforms.normalize: eps must be at least 0, got -1"):
        transforms.normalize("reward", eps=-1)
    with pytest.raises(ValueError, match="normalize: trajectory must have advantage, got state"):
        transforms.normalize("advantage")(given)
    with pytest.raises(
        ValueError, match=r'normalize: trajectory must have env, got .*. per may also be "all"'
    ):
        transforms.normalize("reward", "env")(given)
    with pytest.raises(
        ValueError,
        match=r"normalize: reward must be \[3\] of integers, got torch.float64 of shape \[3\]",
    ):
        transforms.normalize("reward", "reward")(given)

"""Statistics that are kept and used again."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from data.transforms.trajectories import left_alone, trajectory
from machin_fast.data import transforms
from machin_fast.data.trajectory import Trajectory

Statistics = transforms.Statistics


def test_columns_and_what_followed_them_are_standard(device):
    with left_alone(trajectory([5, 1, 30], device=device)) as given:
        statistics = Statistics.of(given, "state", "action")
        done = transforms.standardize(statistics)(given)
    state = given["state"]
    mean, std = state.mean(0), state.std(0, correction=0)
    assert_close(done["state"], (state - mean) / (std + 1e-6), rtol=0, atol=1e-12)
    assert_close(
        done.final["state"], (given.final["state"] - mean) / (std + 1e-6), rtol=0, atol=1e-12
    )
    assert_close(
        done.next("state"), (given.next("state") - mean) / (std + 1e-6), rtol=0, atol=1e-12
    )
    assert_close(done["action"].mean(0).cpu(), torch.zeros(2).double(), rtol=0, atol=1e-12)
    assert torch.equal(done.bounds, given.bounds)
    assert done["reward"].data_ptr() == given["reward"].data_ptr()


def test_next_columns_are_changed_alike(device):
    state, other = (torch.randn(6, 3, device=device) for _ in range(2))
    given = Trajectory({"state": state, "next_state": other})
    statistics = Statistics.of(given, "state")
    done = transforms.standardize(statistics)(given)
    assert torch.equal(done.next("state"), statistics.apply("state", other))
    assert torch.equal(done.final["state"], statistics.apply("state", other[-1:]))


def test_the_inverse_gives_back_what_was(device):
    given = trajectory([4, 7], device=device)
    statistics = Statistics.of(given, "state")
    back = statistics.inverse()(transforms.standardize(statistics)(given))
    assert_close(back["state"], given["state"], rtol=0, atol=1e-12)
    assert_close(back.final["state"], given.final["state"], rtol=0, atol=1e-12)


def test_statistics_of_one_trajectory_fit_another():
    first, second = trajectory([20]), trajectory([5, 5], seed=1)
    statistics = Statistics.of(first, "state")
    done = transforms.standardize(statistics)(second)
    assert torch.equal(done["state"], statistics.apply("state", second["state"]))
    seen = statistics.apply("state", second["state"][0])  # one observation, as a policy gets it
    assert torch.equal(seen, done["state"][0])


def test_a_name_stands_for_all_that_is_nested_in_it():
    given = Trajectory({"state": {"a": torch.arange(4.0), "b": torch.arange(8.0).view(4, 2)}})
    statistics = Statistics.of(given, "state")
    assert statistics.mean.keys() == {"state/a", "state/b"}
    assert statistics.mean["state/b"].tolist() == [3, 4]


def test_constant_dimensions_become_zeros_and_integers_floats():
    given = Trajectory({"pixels": torch.full((3, 2), 7, dtype=torch.uint8)})
    done = transforms.standardize(Statistics.of(given, "pixels"))(given)
    assert done["pixels"].dtype == torch.float32
    assert done["pixels"].tolist() == [[0, 0]] * 3


def test_a_state_dict_takes_statistics_along(tmp_path):
    given = trajectory([20])
    statistics = Statistics.of(given, "state", "action")
    torch.save(statistics.state_dict(), tmp_path / "statistics.pt")
    loaded = Statistics()
    transform = transforms.standardize(loaded)
    loaded.load_state_dict(torch.load(tmp_path / "statistics.pt"))
    wanted = transforms.standardize(statistics)(given)
    assert torch.equal(transform(given)["state"], wanted["state"])
    assert torch.equal(transform(given)["action"], wanted["action"])


def test_what_does_not_fit_is_refused():
    given = trajectory([3])
    with pytest.raises(ValueError, match=r"Statistics.of: trajectory must have speed, got state"):
        Statistics.of(given, "speed")
    with pytest.raises(
        ValueError, match=r"Statistics.of: trajectory must have at least 1 step, got 0"
    ):
        Statistics.of(trajectory([]), "state")
    with pytest.raises(
        ValueError, match=r"Statistics: std must have shapes {'a': \[2\]}, got {'a': \[3\]}"
    ):
        Statistics({"a": torch.ones(2)}, {"a": torch.ones(3)})
    statistics = Statistics.of(given, "state")
    mean = statistics.mean["state"]
    for state, got in (({"weight": mean}, "got weight"), ({"a.mean": mean}, "got {}")):
        with pytest.raises(ValueError, match=got):
            statistics.load_state_dict(state)
        assert statistics.mean["state"] is mean
    with pytest.raises(
        ValueError, match=r"transforms.standardize: trajectory must have state, got x"
    ):
        transforms.standardize(statistics)(Trajectory({"x": torch.ones(2)}))

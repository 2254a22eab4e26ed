"""Returns and advantages against machina's numbers, and against the papers' sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import oracles
from data.transforms.trajectories import (
    GAMMA,
    LAM,
    LENGTHS,
    expected,
    left_alone,
    machina,
    trajectory,
)
from machin_fast.data import transforms


def with_values(lengths, device, dtype=torch.float64):
    """The value behind a terminated step is NaN: nobody may look at it."""
    given = trajectory(lengths, device=device, dtype=dtype)
    value, following = given["state"][:, 0].clone(), given.next("state")[:, 0].clone()
    following[given["terminated"]] = torch.nan
    return given.with_columns(value=value, next_value=following)


def arrays(given, *names):
    found = {name: given[name].cpu().numpy() for name in names}
    found["next_value"] = given.next("value").cpu().numpy()
    return {**found, "bounds": given.bounds.numpy()}


def test_machinas_returns_and_advantages(device):
    given = machina(device, "reward", "value")
    recipe = transforms.chain(
        transforms.discounted_return(GAMMA),
        transforms.gae(GAMMA, LAM),
        transforms.normalize("advantage"),
    )
    done = recipe(given)
    assert_close(done["discounted_return"], expected("return", device), rtol=1e-4, atol=1e-5)
    assert_close(done["advantage"], expected("centred", device), rtol=1e-4, atol=1e-5)
    advantage = transforms.gae(GAMMA, LAM)(given)["advantage"]
    assert_close(advantage, expected("advantage", device), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_advantages_match_the_equation(lengths, device):
    with left_alone(with_values(lengths, device)) as given:
        done = transforms.gae(0.97, 0.9)(given)
    names = ("reward", "value", "terminated", "truncated")
    advantage, target = oracles.gae(**arrays(given, *names), gamma=0.97, lam=0.9)
    assert_close(done["advantage"].cpu(), torch.from_numpy(advantage), rtol=0, atol=1e-12)
    assert_close(done["value_target"].cpu(), torch.from_numpy(target), rtol=0, atol=1e-12)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_returns_match_the_equation(lengths, device):
    names = ("reward", "terminated", "truncated")
    with left_alone(with_values(lengths, device)) as given:
        done = transforms.discounted_return(0.97, "g")(given)
    result = oracles.discounted_return(**arrays(given, *names), gamma=0.97)
    assert_close(done["g"].cpu(), torch.from_numpy(result), rtol=0, atol=1e-12)

    # Without values, what an episode cut short would still have got is 0.
    bare = given.without_columns("value")
    known = {**arrays(given, *names), "next_value": None}
    result = oracles.discounted_return(**known, gamma=0.97)
    done = transforms.discounted_return(0.97)(bare)
    assert_close(done["discounted_return"].cpu(), torch.from_numpy(result), rtol=0, atol=1e-12)


def test_rewards_take_the_dtype_of_values(device):
    given = with_values([5, 3], device, torch.float32)
    given = given.with_columns(reward=given["reward"].double())
    done = transforms.chain(transforms.gae(0.9, 0.9), transforms.discounted_return(0.9))(given)
    for name in ("advantage", "value_target", "discounted_return"):
        assert done[name].dtype == torch.float32
    whole = trajectory([4]).with_columns(reward=torch.tensor([1, 0, 2, 0]))
    assert transforms.discounted_return(0.5)(whole)["discounted_return"].tolist() == [1.5, 1, 2, 0]


def test_half_precision_values_are_computed_with_in_float32():
    given = with_values([5, 3], "cpu", torch.float32)
    rounded = given.with_columns(value=given["value"].half(), next_value=given.next("value").half())
    done = transforms.gae(0.9, 0.9)(rounded)
    assert done["advantage"].dtype == torch.float32
    assert_close(done["advantage"], transforms.gae(0.9, 0.9)(given)["advantage"], rtol=0, atol=0.05)


def test_a_truncated_episode_keeps_its_bootstrap():
    given = trajectory([1, 1, 1]).with_columns(
        reward=torch.ones(3), value=torch.zeros(3), next_value=torch.full((3,), 10.0)
    )
    # terminated, truncated, cut
    assert transforms.gae(0.5, 1)(given)["advantage"].tolist() == [1, 6, 6]
    assert transforms.discounted_return(0.5)(given)["discounted_return"].tolist() == [1, 6, 6]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.gae(1.5, 0.9), r"transforms.gae: gamma must be in \[0, 1\], got 1.5"),
        (lambda: transforms.gae(0.9, -1), r"transforms.gae: lam must be in \[0, 1\], got -1"),
        (
            lambda: transforms.discounted_return(float("nan")),
            r"transforms.discounted_return: gamma must be in \[0, 1\], got nan",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_missing_is_named_with_its_cure():
    given = trajectory([2, 2])
    with pytest.raises(
        ValueError,
        match=r"transforms.gae: trajectory must have value, got state, action, reward, "
        r"terminated, truncated. Apply transforms.values\(critic\) first",
    ):
        transforms.gae(0.9, 0.9)(given)
    with pytest.raises(
        ValueError,
        match=r"transforms.gae: trajectory must have next_value where a segment does not end "
        r"terminated, got none. Apply transforms.values\(critic\) first",
    ):
        transforms.gae(0.9, 0.9)(given.with_columns(value=given["reward"]))
    with pytest.raises(
        ValueError, match=r"discounted_return: reward must have shape \[4\], got \[4, 1\]"
    ):
        transforms.discounted_return(0.9)(given.with_columns(reward=np.ones((4, 1))))

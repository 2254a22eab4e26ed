"""Transforms one after another."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from data.transforms.trajectories import left_alone, trajectory
from machin_fast.data import transforms


def test_transforms_are_applied_in_order(device):
    def double(given):
        return given.with_columns(reward=given["reward"] * 2)

    def add(given):
        return given.with_columns(reward=given["reward"] + 1)

    with left_alone(trajectory([3, 2], device=device)) as given:
        assert torch.equal(transforms.chain(double, add)(given)["reward"], given["reward"] * 2 + 1)
        assert torch.equal(transforms.chain(add, double)(given)["reward"], given["reward"] * 2 + 2)
        assert transforms.chain()(given) is given


def test_results_share_what_did_not_change():
    given = trajectory([3, 2])
    changed = transforms.chain(transforms.resets(), transforms.discounted_return(0.9))(given)
    assert changed["state"] is given["state"]
    assert changed.final["state"] is given.final["state"]
    assert "reset" not in given


def test_what_cannot_be_called_is_refused():
    with pytest.raises(
        TypeError,
        match=r"transforms.chain: transforms must be callable, got str at position 1",
    ):
        transforms.chain(transforms.resets(), "gae")


def test_the_whole_recipe_of_an_actor_critic(device):
    critic = torch.nn.Linear(3, 1, device=device, dtype=torch.float64)
    recipe = transforms.chain(
        transforms.values(critic),
        transforms.gae(0.99, 0.95),
        transforms.discounted_return(0.99),
        transforms.normalize("advantage"),
    )
    done = recipe(trajectory([5, 1, 8], device=device))
    assert {"value", "advantage", "value_target", "discounted_return"} <= {*done.columns}
    assert abs(done["advantage"].mean().item()) < 1e-12
    assert not any(column.requires_grad for column in done.columns.values())


def test_torch_and_numpy_are_enough():
    code = (
        "import sys; from machin_fast.data import transforms\n"
        "assert not {'gymnasium', 'safetensors', 'rich', 'tyro'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

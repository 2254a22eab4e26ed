"""Actions between bounds."""

from __future__ import annotations

import torch

from machin_fast.policies.squash import bounds, squash, unsquash


def test_numbers_become_actions_and_back():
    low = torch.tensor([-2.0, 0.1]).double()
    high = torch.tensor([-1.0, 50.0]).double()
    x = torch.linspace(-6, 6, 101, dtype=torch.float64).unsqueeze(1).expand(101, 2)
    action = squash(x, low, high)
    assert (low < action).all() and (action < high).all() and (action.diff(dim=0) > 0).all()
    torch.testing.assert_close(action[50], (low + high) / 2)
    torch.testing.assert_close(unsquash(action, low, high), x, atol=1e-8, rtol=0)


def test_bounds_themselves_are_finite_numbers():
    low, high = torch.tensor([-2.0, 0.1]), torch.tensor([-1.0, 0.7])
    for action in (low, high):
        assert unsquash(action, low, high).isfinite().all()
    far = squash(torch.tensor([[-1e9], [1e9]]), low, high)
    assert (low <= far).all() and (far <= high).all()


def test_bounds_are_of_one_shape_and_dtype():
    low, high = bounds("test", -1, [1, 2])
    assert low.tolist() == [-1, -1] and high.tolist() == [1, 2]
    assert low.dtype is high.dtype is torch.float32
    low.add_(1)
    assert low.tolist() == [0, 0], "memory of its own"
    assert bounds("test", 0, 1)[0].shape == ()

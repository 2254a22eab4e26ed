"""Losses of values against their formulas, and against machina's figures."""

from __future__ import annotations

import pytest
import torch

from functional import golden
from functional.losses import MaskedLossTests
from machin_fast.functional import clipped_value_loss, min_q_value, td_target, value_loss

GAMMA = 0.99


class TestValueLoss(MaskedLossTests):
    op, names = "value_loss", ("value", "target")

    def call(self, mask, value, target):
        return value_loss(value, target, mask)

    def of_step(self, value, target):
        return (value - target) ** 2 / 2


class TestClippedValueLoss(MaskedLossTests):
    op, names = "clipped_value_loss", ("value", "old_value", "target")

    def call(self, mask, value, old_value, target):
        return clipped_value_loss(value, old_value, target, 0.3, mask)

    def of_step(self, value, old_value, target):
        near = min(max(value, old_value - 0.3), old_value + 0.3)
        return max((value - target) ** 2, (near - target) ** 2) / 2


def test_nothing_is_gained_by_going_far():
    # Beyond 1.2 the value comes nearer to its target, but the loss stays.
    value = torch.tensor([1.1, 1.5], requires_grad=True)
    loss = clipped_value_loss(value, torch.ones(2), torch.full((2,), 2.0), 0.2)
    loss.backward()
    assert value.grad[0] < 0
    assert value.grad[1] == 0


def test_a_clip_that_is_not_positive_is_refused():
    x = torch.zeros(2)
    for clip in (0.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="clipped_value_loss: clip must be above 0, got"):
            clipped_value_loss(x, x, x, clip)


def test_machina_monte_carlo():
    net = golden.net(golden.VALUE)
    value = golden.value(net, golden.OBS)
    loss = value_loss(value, golden.RETURN)
    torch.testing.assert_close(loss, golden.tensor(2.4021313), **golden.TOLERANCE)
    golden.check_gradient(loss, net, w=[1.6101772, -0.8427372, 0.4016677], c=[1.6876462])

    clipped = clipped_value_loss(value, golden.OLD_VALUE, golden.RETURN, 0.2)
    torch.testing.assert_close(clipped, golden.tensor(2.4532516), **golden.TOLERANCE)
    golden.check_gradient(clipped, net, w=[1.5562336, -0.7741228, 0.3934671], c=[1.7628813])


def test_machina_bellman():
    net = golden.net(golden.Q1)
    value = golden.q_value(net, golden.OBS, golden.ACTION)
    mean, log_std = golden.policy(golden.net(golden.POLICY), golden.NEXT_OBS)
    target_net = golden.net(golden.TARGET_Q1)
    drawn = mean + log_std.exp() * golden.NOISE
    next_value = golden.q_value(target_net, golden.NEXT_OBS, drawn).mean(0)
    target = td_target(golden.REWARD, GAMMA * (1 - golden.DONE), next_value).detach()
    loss = value_loss(value, target)
    torch.testing.assert_close(loss, golden.tensor(1.2348901), **golden.TOLERANCE)
    golden.check_gradient(
        loss,
        net,
        d=[-0.2402983, 0.0170028, -0.0061498, 0.5017487],
        u=[-0.5192605, 0.0656404, 0.7138387, 0.2152794],
    )
    each = [value_loss(v, t) for v, t in zip(value, target, strict=True)]
    want = [2.7895951, 0.2389385, 3.681725, 0.528981, 0.1553189, 0.0147817]
    torch.testing.assert_close(torch.stack(each), golden.tensor(want), **golden.TOLERANCE)


def test_machina_clipped_double_bellman():
    net = golden.net(golden.Q1)
    value = golden.q_value(net, golden.OBS, golden.ACTION)
    best = golden.tensor(
        [
            [0.744, 0.079], [1.297, -0.736], [-0.541, 0.661],
            [1.28, 0.145], [-0.713, -0.119], [-0.498, 1.897],
        ]
    )  # fmt: skip
    next_value = min_q_value(
        *(
            golden.q_value(golden.net(parameters), golden.NEXT_OBS, best)
            for parameters in (golden.TARGET_Q1, golden.TARGET_Q2)
        )
    )
    target = td_target(golden.REWARD, 0.9 * (1 - golden.DONE), next_value).detach()
    loss = value_loss(value, target)
    torch.testing.assert_close(loss, golden.tensor(3.8314965), **golden.TOLERANCE)
    golden.check_gradient(
        loss,
        net,
        d=[-1.6810585, -0.4484851, 1.1999578, 2.260201],
        u=[-0.5638605, -0.0901571, 1.0178967, 0.5396344],
    )

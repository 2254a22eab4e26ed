"""Losses of policies against their formulas, and against machina's figures."""

from __future__ import annotations

import math

import torch

from functional import golden
from functional.losses import MaskedLossTests
from machin_fast.functional import (
    deterministic_policy_loss,
    entropy_loss,
    gaussian_entropy,
    gaussian_log_prob,
    policy_gradient_loss,
    surrogate_loss,
)


class TestPolicyGradientLoss(MaskedLossTests):
    op, names = "policy_gradient_loss", ("log_prob", "advantage")

    def call(self, mask, log_prob, advantage):
        return policy_gradient_loss(log_prob, advantage, mask)

    def of_step(self, log_prob, advantage):
        return -log_prob * advantage


class TestSurrogateLoss(MaskedLossTests):
    op, names = "surrogate_loss", ("log_prob", "old_log_prob", "advantage")

    def call(self, mask, log_prob, old_log_prob, advantage):
        return surrogate_loss(log_prob, old_log_prob, advantage, mask)

    def of_step(self, log_prob, old_log_prob, advantage):
        return -math.exp(log_prob - old_log_prob) * advantage


class TestDeterministicPolicyLoss(MaskedLossTests):
    op, names = "deterministic_policy_loss", ("q",)

    def call(self, mask, q):
        return deterministic_policy_loss(q, mask)

    def of_step(self, q):
        return -q


class TestEntropyLoss(MaskedLossTests):
    op, names = "entropy_loss", ("entropy",)

    def call(self, mask, entropy):
        return entropy_loss(entropy, 0.25, mask)

    def of_step(self, entropy):
        return -0.25 * entropy


def test_the_whole_batch_counts():
    # Machin's DDPG takes the first row alone.
    q = torch.arange(6.0).view(6, 1).requires_grad_()
    loss = deterministic_policy_loss(q)
    loss.backward()
    assert loss.item() == -2.5
    torch.testing.assert_close(q.grad, torch.full((6, 1), -1 / 6))


def test_at_the_old_policy_the_surrogate_has_the_gradient_of_the_policy():
    log_prob, advantage = torch.randn(2, 9, dtype=torch.float64)
    log_prob.requires_grad_()
    surrogate = surrogate_loss(log_prob, log_prob.detach(), advantage)
    torch.testing.assert_close(surrogate, -advantage.mean())
    plain = policy_gradient_loss(log_prob, advantage)
    torch.testing.assert_close(*(torch.autograd.grad(x, log_prob) for x in (surrogate, plain)))


def test_machina_pg():
    net = golden.net(golden.POLICY)
    mean, log_std = golden.policy(net, golden.OBS)
    log_prob = gaussian_log_prob(mean, log_std, golden.ACTION)
    loss = policy_gradient_loss(log_prob, golden.ADVANTAGE)
    loss = loss + entropy_loss(gaussian_entropy(log_std), 1e-3)
    torch.testing.assert_close(loss, golden.tensor(12.2264366), **golden.TOLERANCE)
    golden.check_gradient(
        loss,
        net,
        log_std=[-24.7459393, 0.2958184],
        W=[[5.5325298, 1.7194315, -5.2442951], [0.3420493, 0.6960284, -0.500827]],
        b=[7.4425282, 0.1204209],
    )


def test_machina_log_likelihood():
    net = golden.net(golden.POLICY)
    log_prob = gaussian_log_prob(*golden.policy(net, golden.OBS), golden.ACTION)
    loss = policy_gradient_loss(log_prob, torch.ones_like(log_prob))
    torch.testing.assert_close(loss, golden.tensor(18.8927479), **golden.TOLERANCE)
    golden.check_gradient(loss, net, log_std=[-33.5468216, -2.8129225], b=[6.7818294, -0.1481657])


def test_machina_ag():
    net = golden.net(golden.POLICY)
    mean, log_std = golden.policy(net, golden.OBS)
    action = mean + log_std.exp() * golden.NOISE
    q = golden.q_value(golden.net(golden.Q1), golden.OBS, action)
    loss = deterministic_policy_loss(q.mean(0))
    torch.testing.assert_close(loss, golden.tensor(-0.5085506), **golden.TOLERANCE)
    golden.check_gradient(
        loss,
        net,
        log_std=[-0.0955662, 0.059194],
        W=[[0.2745737, 0.1385132, -0.053681], [0.0698997, 0.0379075, -0.0903624]],
        b=[1.2592179, 0.3256159],
    )

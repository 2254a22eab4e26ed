"""PPO's losses against their formulas, and against machina's figures."""

from __future__ import annotations

import math

import pytest
import torch

from functional import golden
from functional.losses import MaskedLossTests
from machin_fast.functional import (
    entropy_loss,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    kl_coefficient,
    normalize_advantage,
    ppo_clip_loss,
    ppo_kl_loss,
)


class TestPpoClipLoss(MaskedLossTests):
    op, names = "ppo_clip_loss", ("log_prob", "old_log_prob", "advantage")

    def call(self, mask, log_prob, old_log_prob, advantage):
        return ppo_clip_loss(log_prob, old_log_prob, advantage, 0.2, mask)

    def of_step(self, log_prob, old_log_prob, advantage):
        ratio = math.exp(log_prob - old_log_prob)
        return -min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)


class TestPpoKlLoss(MaskedLossTests):
    op, names = "ppo_kl_loss", ("log_prob", "old_log_prob", "advantage", "kl")

    def call(self, mask, log_prob, old_log_prob, advantage, kl):
        return ppo_kl_loss(log_prob, old_log_prob, advantage, kl, 0.7, mask)

    def of_step(self, log_prob, old_log_prob, advantage, kl):
        return -math.exp(log_prob - old_log_prob) * advantage + 0.7 * kl


def test_clip_by_hand():
    # Too likely and too unlikely, good and bad: only what leads back to the old policy counts.
    log_prob = torch.tensor([1.5, 1.5, 0.5, 0.5]).log().requires_grad_()
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss = ppo_clip_loss(log_prob, torch.zeros(4), advantage, 0.2)
    torch.testing.assert_close(loss, torch.tensor(-(1.2 - 1.5 + 0.5 - 0.8) / 4))
    loss.backward()
    torch.testing.assert_close(log_prob.grad, torch.tensor([0, 1.5, -0.5, 0]) / 4)


@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_a_ratio_beyond_all_bounds_makes_no_nan(advantage):
    log_prob = torch.tensor([0.0], requires_grad=True)
    loss = ppo_clip_loss(log_prob, torch.tensor([-500.0]), torch.tensor([advantage]), 0.2)
    loss.backward()
    assert loss.isfinite()
    assert log_prob.grad.isfinite().all()


def test_the_penalty_may_be_a_tensor_of_any_shape_with_one_number(device):
    data = torch.randn(4, 6, device=device)
    want = ppo_kl_loss(*data, 0.5)
    for beta in (torch.tensor(0.5), torch.tensor([0.5])):
        assert torch.equal(ppo_kl_loss(*data, beta), want)
    with pytest.raises(ValueError, match=r"ppo_kl_loss: beta must be one number, got shape \[6\]"):
        ppo_kl_loss(*data, data[0])


@pytest.mark.parametrize("clip", [0.0, -0.2, math.nan])
def test_a_clip_that_is_not_positive_is_refused(clip):
    x = torch.zeros(2)
    with pytest.raises(ValueError, match="ppo_clip_loss: clip must be above 0, got"):
        ppo_clip_loss(x, x, x, clip)


def test_machina_rule_of_the_coefficient(device):
    less, same, more = 1 / 1.5, 1.0, 1.5
    for kl, want in (
        (0.02, more), (0.0131, more), (0.0129, same), (0.01, same),
        (0.0071, same), (0.0069, less), (0.005, less), (math.nan, same),
    ):  # fmt: skip
        for beta in (1.0, torch.tensor(1.0), torch.tensor([1.0])):
            got = kl_coefficient(beta, torch.tensor(kl, device=device), 0.01)
            assert (got.shape, got.dtype, got.device.type) == ((), torch.float32, device.type)
            torch.testing.assert_close(got.item(), want, atol=0, rtol=1e-6)
    with pytest.raises(ValueError, match="kl_coefficient: target must be above 0, got 0"):
        kl_coefficient(1.0, torch.tensor(1.0), 0)
    with pytest.raises(ValueError, match=r"kl_coefficient: kl must be one number, got shape \[2\]"):
        kl_coefficient(1.0, torch.zeros(2), 0.01)


def test_machina_pg_clip():
    net = golden.net(golden.POLICY)
    mean, log_std = golden.policy(net, golden.OBS)
    log_prob = gaussian_log_prob(mean, log_std, golden.ACTION)
    old_log_prob = gaussian_log_prob(golden.OLD_MEAN, golden.OLD_LOG_STD, golden.ACTION)
    loss = ppo_clip_loss(log_prob, old_log_prob, golden.ADVANTAGE, 0.2)
    loss = loss + entropy_loss(gaussian_entropy(log_std), 1e-3)
    torch.testing.assert_close(loss, golden.tensor(169.012146), **golden.TOLERANCE)
    golden.check_gradient(
        loss,
        net,
        log_std=[602.2130127, 79.093544],
        W=[[801.8031006, -244.4129639, 101.209137], [147.9337616, 102.0320053, -205.2842407]],
        b=[239.2798767, -254.9871368],
    )


def test_machina_pg_kl():
    net = golden.net(golden.POLICY)
    mean, log_std = golden.policy(net, golden.OBS)
    log_prob = gaussian_log_prob(mean, log_std, golden.ACTION)
    old_log_prob = gaussian_log_prob(golden.OLD_MEAN, golden.OLD_LOG_STD, golden.ACTION)
    kl = gaussian_kl(golden.OLD_MEAN, golden.OLD_LOG_STD, mean, log_std)
    loss = ppo_kl_loss(log_prob, old_log_prob, golden.ADVANTAGE, kl, 0.7)
    loss = loss + entropy_loss(gaussian_entropy(log_std), 1e-3)
    torch.testing.assert_close(loss, golden.tensor(171.9265289), **golden.TOLERANCE)
    golden.check_gradient(
        loss,
        net,
        log_std=[597.6630859, 77.7405319],
        W=[[799.5366211, -242.0999451, 99.1214218], [148.7272949, 102.5168533, -205.2891998]],
        b=[239.5098267, -255.5333099],
    )


@pytest.mark.compile
def test_compiles_into_one_graph(device):
    def loss(mean, log_std, action, old_log_prob, advantage, mask):
        log_prob = gaussian_log_prob(mean, log_std, action)
        return ppo_clip_loss(
            log_prob, old_log_prob, normalize_advantage(advantage, mask), 0.2, mask
        )

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True)
    for batch in (7, 65):
        mean, log_std, action = torch.randn(3, batch, 2, device=device)
        old_log_prob, advantage = torch.randn(2, batch, device=device)
        mean.requires_grad_()
        data = (mean, log_std, action, old_log_prob, advantage, advantage < 1)
        got, want = compiled(*data), loss(*data)
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(*(torch.autograd.grad(x, mean) for x in (got, want)))

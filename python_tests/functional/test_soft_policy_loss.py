"""SAC's losses against their formulas, and against machina's figures."""

from __future__ import annotations

import re

import pytest
import torch
from torch.testing import assert_close

from functional import golden
from functional.losses import MaskedLossTests
from machin_fast.functional import (
    discrete_soft_policy_loss,
    gaussian_log_prob,
    masked_log_softmax,
    min_q_value,
    multi_categorical_entropy,
    soft_policy_loss,
    soft_q_value,
    tanh_gaussian_log_prob,
    td_target,
    temperature_loss,
    value_loss,
)


class TestSoftPolicyLoss(MaskedLossTests):
    op, names = "soft_policy_loss", ("log_prob", "q")

    def call(self, mask, log_prob, q):
        return soft_policy_loss(log_prob, q, 0.3, mask)

    def of_step(self, log_prob, q):
        return 0.3 * log_prob - q


class TestTemperatureLoss(MaskedLossTests):
    op, names = "temperature_loss", ("log_prob",)

    def call(self, mask, log_prob):
        return temperature_loss(torch.tensor([-0.7], dtype=log_prob.dtype), log_prob, -2.0, mask)

    def of_step(self, log_prob):
        return 0.7 * (log_prob - 2)

    def test_gradient(self):
        log_prob = torch.randn(4, dtype=torch.float64, requires_grad=True)
        assert not self.call(None, log_prob).requires_grad
        log_alpha = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: temperature_loss(x, log_prob, -2.0), log_alpha)


def test_the_temperature_rises_while_the_entropy_is_too_low(device):
    for log_prob, sign in ((3.0, -1), (1.0, 1)):
        log_alpha = torch.zeros(1, device=device, requires_grad=True)
        temperature_loss(log_alpha, torch.full((4, 1), log_prob, device=device), -2.0).backward()
        assert log_alpha.grad.tolist() == [sign]


def test_the_entropy_gradient_goes_through_the_action():
    # At q = 0 the loss is the negative entropy, which grows by 1 with log_std. machina
    # detaches the action, and gets 0.
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(4096, 1, generator=random, dtype=torch.float64)
    log_std = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    mean, spread = torch.zeros_like(noise), log_std.expand_as(noise)
    log_prob = gaussian_log_prob(mean, spread, mean + spread.exp() * noise)
    loss = soft_policy_loss(log_prob, torch.zeros_like(log_prob), 1.0)
    (gradient,) = torch.autograd.grad(loss, log_std)
    assert_close(gradient.item(), -1.0, atol=1e-12, rtol=0)


def test_gradient_of_a_squashed_policy_through_log_prob_and_q():
    mean, log_std, noise = torch.randn(3, 5, 2, dtype=torch.float64)

    def loss(mean, log_std, weight):
        pre_tanh = mean + log_std.exp() * noise
        q = (torch.tanh(pre_tanh) * weight).sum(-1)
        return soft_policy_loss(tanh_gaussian_log_prob(mean, log_std, pre_tanh), q, 0.2)

    weight = torch.randn(2, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (mean, log_std, weight)]
    assert torch.autograd.gradcheck(loss, leaves)


def discrete(steps, actions, device="cpu"):
    logits, q = torch.randn(2, *steps, actions, dtype=torch.float64).to(device)
    return logits.requires_grad_(), q.requires_grad_()


@pytest.mark.parametrize("steps", [(0,), (1,), (7,), (5, 13)])
def test_the_discrete_loss_is_an_expectation_over_actions(steps, device):
    logits, q = discrete(steps, 4, device)
    log_prob = logits.log_softmax(-1)
    per_step = (log_prob.exp() * (0.3 * log_prob - q)).sum(-1, keepdim=True)
    want = per_step.mean() if per_step.numel() else torch.zeros_like(per_step.sum())
    assert_close(discrete_soft_policy_loss(log_prob, q, 0.3), want)

    mask = torch.rand(*steps, 1, device=device) < 0.6
    want = per_step[mask].sum() / max(int(mask.sum()), 1)
    assert_close(discrete_soft_policy_loss(log_prob, q, 0.3, mask), want)


def test_masked_steps_of_the_discrete_loss_may_be_nan(device):
    logits, q = discrete((6,), 4, device)
    mask = torch.tensor([[True], [False]] * 3, device=device)
    results = []
    for bad in (0.0, torch.nan):
        log_prob = logits.detach().log_softmax(-1).masked_fill(~mask, bad).requires_grad_()
        values = q.detach().masked_fill(~mask, bad).requires_grad_()
        loss = discrete_soft_policy_loss(log_prob, values, 0.3, mask)
        results.append([loss, *torch.autograd.grad(loss, (log_prob, values))])
    assert_close(results[1], results[0], atol=0, rtol=0)


def test_gradient_of_the_discrete_loss_with_impossible_actions():
    logits, q = discrete((6,), 4)
    possible = torch.rand(6, 4) < 0.6
    possible[:, 0] = True
    mask = torch.tensor([[True], [False]] * 3)
    alpha = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, q, alpha: discrete_soft_policy_loss(
            masked_log_softmax(x, possible), q, alpha, mask
        ),
        (logits, q, alpha),
    )


def test_wrong_arguments_of_the_discrete_loss_are_named():
    x = torch.zeros(3, 4)
    for text, arguments in (
        ("q must have shape [3, 4], got [3, 1]", (x, x[:, :1], 1.0)),
        ("alpha must be one number, got shape [3, 4]", (x, x, x)),
        ("mask must have shape [3, 1], got [3]", (x, x, 1.0, torch.ones(3, dtype=torch.bool))),
    ):
        with pytest.raises(ValueError, match="^discrete_soft_policy_loss: " + re.escape(text)):
            discrete_soft_policy_loss(*arguments)
    with pytest.raises(TypeError, match=r"^discrete_soft_policy_loss: mask must be bool, got"):
        discrete_soft_policy_loss(x, x, 1.0, x[:, :1])
    with pytest.raises(
        ValueError, match=r"^temperature_loss: log_alpha must be one number, got shape \[3, 4\]"
    ):
        temperature_loss(x, x, 1.0)


def test_machina_sac():
    log_alpha = golden.tensor(0.3)
    alpha = log_alpha.exp()
    policy, q1, q2 = (golden.net(x) for x in (golden.POLICY, golden.Q1, golden.Q2))
    targets = [golden.net(x) for x in (golden.TARGET_Q1, golden.TARGET_Q2)]

    def draw(obs, noise):
        mean, log_std = (x.expand(2, -1, -1) for x in golden.policy(policy, obs))
        action = mean + log_std.exp() * noise
        return action, gaussian_log_prob(mean, log_std, action)

    next_action, next_log_prob = draw(golden.NEXT_OBS, golden.NEXT_NOISE)
    next_value = min_q_value(
        *(
            soft_q_value(
                golden.q_value(net, golden.NEXT_OBS, next_action), next_log_prob, alpha
            ).mean(0)
            for net in targets
        )
    )
    target = td_target(golden.REWARD, 0.99 * (1 - golden.DONE), next_value).detach()
    losses = [value_loss(golden.q_value(q, golden.OBS, golden.ACTION), target) for q in (q1, q2)]
    assert_close(torch.stack(losses), golden.tensor([2.2260764, 1.1676735]), **golden.TOLERANCE)
    golden.check_gradient(
        losses[0],
        q1,
        d=[-0.9546404, -0.28397, 0.7777819, 1.3365754],
        u=[-0.171263, 0.4542227, 1.0149162, 0.9516197],
    )

    action, log_prob = draw(golden.OBS, golden.NOISE)
    q = min_q_value(*(golden.q_value(net, golden.OBS, action).mean(0) for net in (q1, q2)))
    loss = soft_policy_loss(log_prob.mean(0), q, alpha)
    assert_close(loss, golden.tensor(-0.3770905), **golden.TOLERANCE)

    loss = temperature_loss(log_alpha, log_prob, -2.0)
    assert_close(loss, golden.tensor(0.7520468), **golden.TOLERANCE)


@pytest.mark.compile
def test_compiles_into_one_graph(device):
    def loss(logits, q, log_alpha, possible, mask):
        log_prob = masked_log_softmax(logits, possible)
        entropy = multi_categorical_entropy(logits, [2, 1, 3], possible).unsqueeze(-1)
        actor = discrete_soft_policy_loss(log_prob, q, log_alpha.detach().exp(), mask)
        return actor + temperature_loss(log_alpha, -entropy, 0.5, mask)

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True)
    log_alpha = torch.zeros(1, device=device, requires_grad=True)
    for batch in (7, 65):
        logits, q = torch.randn(2, batch, 6, device=device, requires_grad=True)
        possible = torch.rand(batch, 6, device=device) < 0.7
        mask = torch.rand(batch, 1, device=device) < 0.7
        results = [f(logits, q, log_alpha, possible, mask) for f in (compiled, loss)]
        assert_close(*results)
        assert_close(*(torch.autograd.grad(x, (logits, q, log_alpha)) for x in results))

"""Actors of TRPO against formulas written out, and against derivatives taken twice."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from machin_fast.model import safe_call
from machin_fast.model.algorithms.trpo import ActorContinuous, ActorDiscrete

DIM = 3


class Discrete(ActorDiscrete):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, DIM))

    def probability(self, state: Tensor) -> Tensor:
        return self.fc(state).softmax(1)

    def forward(self, state, action=None):
        return self.sample(self.probability(state), action)


class Continuous(ActorContinuous):
    def __init__(self) -> None:
        super().__init__(DIM, log_std=-0.5)
        self.fc = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, DIM))

    def forward(self, state, action=None):
        return self.sample(self.fc(state), action)


def actor_and_state(kind, device="cpu", batch=7):
    torch.manual_seed(0)
    return kind().double().to(device), torch.randn(batch, 4, dtype=torch.float64).to(device)


def moved(actor: nn.Module) -> nn.Module:
    """One with other parameters, the deviations among them."""
    other = copy.deepcopy(actor)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return other


def mean_kl(old: nn.Module, new: nn.Module, state: Tensor) -> Tensor:
    """KL(old || new) as it stands in textbooks."""
    if isinstance(old, Discrete):
        p, q = old.probability(state), new.probability(state)
        return (p * (p / q).log()).sum(1).mean()
    s, t = old.action_log_std.exp(), new.action_log_std.exp()
    square = (old.fc(state) - new.fc(state)) ** 2
    return ((t / s).log() + (s**2 + square) / (2 * t**2) - 0.5).sum(1).mean()


both = pytest.mark.parametrize("kind", [Discrete, Continuous])


# -- samples -----------------------------------------------------------------------------------


def test_discrete_samples_and_their_probabilities(device):
    actor, state = actor_and_state(Discrete, device)
    action, log_prob = actor(state)
    assert action.shape == log_prob.shape == (7, 1) and action.dtype == torch.int64
    expected = actor.probability(state).gather(1, action).log()
    torch.testing.assert_close(log_prob, expected)
    for given in (action, action.flatten(), action.float()):
        same, same_log_prob = actor(state, given)
        assert torch.equal(same.flatten(), given.flatten()) and same.shape == (7, 1)
        assert torch.equal(same_log_prob, log_prob)


def test_continuous_samples_and_their_probabilities(device):
    actor, state = actor_and_state(Continuous, device)
    action, log_prob = actor(state)
    assert action.shape == (7, DIM) and log_prob.shape == (7, 1)
    assert not action.requires_grad and log_prob.requires_grad
    z = (action - actor.fc(state)) / math.exp(-0.5)
    expected = (-0.5 * z**2 + 0.5 - 0.5 * math.log(2 * math.pi)).sum(1, keepdim=True)
    torch.testing.assert_close(log_prob, expected)
    same, same_log_prob = actor(state, action)
    assert same is action and torch.equal(same_log_prob, log_prob)


def test_samples_have_the_frequencies_they_claim():
    actor = ActorDiscrete()
    probability = torch.tensor([[0.2, 0.5, 0.3]]).repeat(100_000, 1)
    torch.manual_seed(0)
    action, _ = actor.sample(probability)
    frequency = action.flatten().bincount(minlength=3) / len(action)
    torch.testing.assert_close(frequency, probability[0], atol=0.008, rtol=0)

    mean, log_std = torch.tensor([1.0, -2.0]), 0.7
    action, _ = ActorContinuous(2, log_std).sample(mean.repeat(100_000, 1))
    torch.testing.assert_close(action.mean(0), mean, atol=0.032, rtol=0)
    torch.testing.assert_close(action.std(0).log(), torch.tensor([log_std] * 2), atol=0.012, rtol=0)


def test_the_deviation_is_a_parameter():
    actor = ActorContinuous(5, log_std=-1)
    assert dict(actor.named_parameters())["action_log_std"] is actor.action_log_std
    assert actor.action_log_std.tolist() == [[-1.0] * 5]


# -- divergences -------------------------------------------------------------------------------


@both
def test_the_divergence_from_itself_is_nothing_and_has_no_slope(kind, device):
    actor, state = actor_and_state(kind, device)
    kl = actor.get_kl(state)
    assert kl.shape == (7, 1)
    torch.testing.assert_close(kl, torch.zeros_like(kl))
    for gradient in torch.autograd.grad(kl.mean(), list(actor.parameters())):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@both
def test_compare_kl_is_that_of_the_given_parameters_from_those_there(kind, device):
    actor, state = actor_and_state(kind, device)
    other = moved(actor)
    expected = mean_kl(other, actor, state).item()
    before = copy.deepcopy(actor.state_dict())
    assert actor.compare_kl(parameters_to_vector(other.parameters()), state) == pytest.approx(
        expected
    )
    assert expected > 0.01 and abs(mean_kl(actor, other, state).item() - expected) > 1e-3
    for name, tensor in actor.state_dict().items():
        assert torch.equal(tensor, before[name])


@both
def test_parameters_are_back_when_forward_fails(kind):
    actor, state = actor_and_state(kind)
    before = parameters_to_vector(actor.parameters()).detach().clone()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        actor.compare_kl(before + 1, state[:, :2])
    assert torch.equal(parameters_to_vector(actor.parameters()), before)


# -- Fisher information ------------------------------------------------------------------------


def flat_grad(value, parameters, **kwargs):
    gradients = torch.autograd.grad(value, parameters, allow_unused=True, **kwargs)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for g, p in zip(gradients, parameters, strict=True)
        ]
    )


@both
def test_the_fisher_information_is_the_second_derivative_of_the_divergence(kind, device):
    actor, state = actor_and_state(kind, device)
    parameters = list(actor.parameters())
    vector = torch.randn_like(parameters_to_vector(parameters))

    slope = flat_grad(actor.get_kl(state).mean(), parameters, create_graph=True)
    expected = flat_grad(slope @ vector, parameters)

    diagonal, of_distribution = actor.get_fim(state)
    assert diagonal.shape == of_distribution.shape == (len(diagonal),)
    assert not diagonal.requires_grad
    dummy = torch.ones_like(of_distribution, requires_grad=True)
    transposed = flat_grad(of_distribution @ dummy, parameters, create_graph=True)
    (jv,) = torch.autograd.grad(transposed @ vector, dummy, retain_graph=True)
    got = flat_grad(of_distribution @ (diagonal * jv).detach(), parameters) / len(state)
    torch.testing.assert_close(got, expected)
    if kind is Continuous:
        at = [name for name, _ in actor.named_parameters()].index("action_log_std")
        begin = sum(p.numel() for p in parameters[:at])
        of_std = slice(begin, begin + DIM)
        torch.testing.assert_close(got[of_std], 2 * vector[of_std])


def test_discrete_information_is_the_inverse_probability():
    actor, state = actor_and_state(Discrete)
    diagonal, probability = actor.get_fim(state)
    expected = actor.probability(state).flatten()
    torch.testing.assert_close(probability, expected)
    torch.testing.assert_close(diagonal, 1 / expected)


def test_continuous_information_is_the_inverse_variance_and_2():
    actor, state = actor_and_state(Continuous)
    diagonal, parameters = actor.get_fim(state)
    rows = diagonal.view(7, 2 * DIM)
    torch.testing.assert_close(rows[:, :DIM], torch.full((7, DIM), math.e, dtype=torch.float64))
    assert (rows[:, DIM:] == 2).all()
    torch.testing.assert_close(parameters.view(7, 2 * DIM)[:, :DIM], actor.fc(state))


def test_probabilities_that_do_not_sum_to_1_are_those_that_do():
    class Scaled(Discrete):
        def forward(self, state, action=None):
            return self.sample(3 * self.probability(state), action)

    plain, state = actor_and_state(Discrete)
    scaled, _ = actor_and_state(Scaled)
    for a, b in zip(scaled.get_fim(state), plain.get_fim(state), strict=True):
        torch.testing.assert_close(a, b)


def test_an_impossible_action_makes_no_nan():
    class Masked(Discrete):
        def probability(self, state):
            return self.fc(state).index_fill(1, torch.tensor([1]), -math.inf).softmax(1)

    actor, state = actor_and_state(Masked)
    parameters = list(actor.parameters())
    diagonal, probability = actor.get_fim(state)
    assert diagonal.isfinite().all() and (probability.view(7, DIM)[:, 1] == 0).all()
    assert actor.get_kl(state).count_nonzero() == 0
    slope = flat_grad(actor.get_kl(state).mean(), parameters, create_graph=True)
    assert flat_grad(slope.sum(), parameters).isfinite().all()
    other = parameters_to_vector(moved(actor).parameters())
    assert math.isfinite(actor.compare_kl(other, state))


# -- as a module -------------------------------------------------------------------------------


@both
def test_safe_call_reaches_all_methods_and_drops_what_forward_does_not_take(kind, device):
    actor, state = actor_and_state(kind, device)
    given = {"state": state.cpu(), "goal": 1}
    action, _ = safe_call(actor, given)
    assert action.device.type == device.type
    (kl,) = safe_call(actor, given, method="get_kl")
    assert kl.shape == (7, 1)
    assert len(safe_call(actor, given, method="get_fim")) == 2
    params = parameters_to_vector(actor.parameters())
    (same,) = safe_call(actor, given, {"params": params}, method="compare_kl")
    assert same == pytest.approx(0, abs=1e-12)


@both
def test_actors_can_be_copied_at_any_time(kind):
    actor, state = actor_and_state(kind)
    actor(state)
    actor.get_kl(state)
    actor.get_fim(state)
    twin = copy.deepcopy(actor)
    vector_to_parameters(parameters_to_vector(actor.parameters()) + 1, twin.parameters())
    assert not torch.equal(twin.get_fim(state)[1], actor.get_fim(state)[1])


@pytest.mark.parametrize(
    ("kind", "first", "action", "message"),
    [
        (Discrete, [7], None, r"probability must be \[batch, action_num\], got \[7\]"),
        (Discrete, [7, 3], [6, 1], r"action must have shape \[7, 1\], got \[6, 1\]"),
        (Discrete, [7, 3], [7, 3], r"action must have shape \[7, 1\], got \[7, 3\]"),
        (Continuous, [7, 4], None, r"mean must be \[batch, 3\], got \[7, 4\]"),
        (Continuous, [3], None, r"mean must be \[batch, 3\], got \[3\]"),
        (Continuous, [7, 3], [7, 1], r"action must have shape \[7, 3\], got \[7, 1\]"),
    ],
)
def test_wrong_shapes_are_refused(kind, first, action, message):
    given = None if action is None else torch.zeros(action)
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.sample: {message}"):
        kind().sample(torch.full(first, 0.5), given)


def test_wrong_numbers_of_parameters_are_refused():
    actor, state = actor_and_state(Discrete)
    with pytest.raises(
        ValueError, match=r"Discrete\.compare_kl: params must have shape \[67\], got \[3\]"
    ):
        actor.compare_kl(torch.zeros(3), state)


def test_a_forward_that_does_not_sample_is_found():
    class Forgets(ActorDiscrete):
        def forward(self, state):
            return state, state

    with pytest.raises(RuntimeError, match="Forgets: forward must call sample, got no call"):
        Forgets().get_kl(torch.zeros(1, 2))

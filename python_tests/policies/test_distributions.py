"""Distributions of actions, against torch's own in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch import distributions as torchs

from machin_fast.policies.distributions import (
    Categorical,
    Distribution,
    Gaussian,
    GaussianMixture,
    MultiCategorical,
    TanhGaussian,
)

LOW, HIGH = torch.tensor([-2.0, 0.1, 5.0]).double(), torch.tensor([-1.0, 0.7, 50.0]).double()
SIZES = (2, 4, 3)
leading_dimensions = pytest.mark.parametrize("leading", [(), (1,), (7,), (5, 7)])


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


class Pair(NamedTuple):
    ours: Distribution
    oracle: torchs.Distribution
    leaves: tuple[Tensor, ...]


def make(kind: str, leading: tuple[int, ...]) -> Pair:
    """Ours, and torch's for an action without the last dimension where that is 1."""
    if kind == "categorical":
        logits = randn(*leading, 4).requires_grad_()
        return Pair(Categorical(logits), torchs.Categorical(logits=logits), (logits,))
    if kind == "multi":
        logits = randn(*leading, sum(SIZES)).requires_grad_()
        return Pair(MultiCategorical(logits, SIZES), _Several(logits), (logits,))
    if kind == "mixture":
        logits, mean = randn(*leading, 4).requires_grad_(), randn(*leading, 4, 3).requires_grad_()
        log_std = randn(*leading, 4, 3).requires_grad_()
        component = torchs.Independent(torchs.Normal(mean, log_std.exp()), 1)
        oracle = torchs.MixtureSameFamily(torchs.Categorical(logits=logits), component)
        return Pair(GaussianMixture(logits, mean, log_std), oracle, (logits, mean, log_std))
    mean, log_std = randn(*leading, 3).requires_grad_(), randn(*leading, 3).requires_grad_()
    normal = torchs.Independent(torchs.Normal(mean, log_std.exp()), 1)
    if kind == "gaussian":
        return Pair(Gaussian(mean, log_std), normal, (mean, log_std))
    steps = [
        torchs.TanhTransform(cache_size=1),
        torchs.AffineTransform((LOW + HIGH) / 2, (HIGH - LOW) / 2, event_dim=1, cache_size=1),
    ]
    oracle = torchs.TransformedDistribution(normal, steps)
    return Pair(TanhGaussian(mean, log_std, LOW, HIGH), oracle, (mean, log_std))


class _Several(torchs.Distribution):
    """Torch has none."""

    def __init__(self, logits: Tensor) -> None:
        self.parts = [torchs.Categorical(logits=each) for each in logits.split(SIZES, -1)]

    def sample(self) -> Tensor:
        return torch.stack([part.sample() for part in self.parts], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        pairs = zip(self.parts, value.unbind(-1), strict=True)
        return sum(part.log_prob(each) for part, each in pairs)

    def entropy(self) -> Tensor:
        return sum(part.entropy() for part in self.parts)


KINDS = ["categorical", "multi", "gaussian", "tanh", "mixture"]
kinds = pytest.mark.parametrize("kind", KINDS)
exact = pytest.mark.parametrize("kind", ["categorical", "multi", "gaussian"])
estimated = pytest.mark.parametrize("kind", ["tanh", "mixture"])


def of_action(oracle: torchs.Distribution, action: Tensor, kind: str) -> Tensor:
    return oracle.log_prob(action.squeeze(-1) if kind == "categorical" else action).unsqueeze(-1)


def slopes(y: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in the parameters that a distribution was made of."""
    found = torch.autograd.grad(y.sum(), leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]


def remade(ours: Distribution, change: Callable[[Tensor], Tensor]) -> Distribution:
    """The same one of changed parameters."""
    values = vars(ours).values()
    is_parameter = [isinstance(x, Tensor) and x.requires_grad for x in values]
    pairs = zip(values, is_parameter, strict=True)
    return type(ours)(*(change(x.detach()) if changed else x for x, changed in pairs))


# -- what all have in common -------------------------------------------------------------------


@kinds
@leading_dimensions
def test_log_probabilities_are_torchs(kind, leading):
    torch.manual_seed(0)
    ours, oracle, leaves = make(kind, leading)
    action = oracle.sample()
    action = action.unsqueeze(-1) if kind == "categorical" else action
    log_prob = ours.log_prob(action)
    assert log_prob.shape == (*leading, 1)
    expected = of_action(oracle, action, kind)
    torch.testing.assert_close(log_prob, expected)
    for got, want in zip(slopes(log_prob, leaves), slopes(expected, leaves), strict=True):
        torch.testing.assert_close(got, want)


@exact
@leading_dimensions
def test_entropies_are_torchs(kind, leading):
    ours, oracle, leaves = make(kind, leading)
    entropy, expected = ours.entropy(), oracle.entropy().unsqueeze(-1)
    assert entropy.shape == (*leading, 1)
    torch.testing.assert_close(entropy, expected)
    for got, want in zip(slopes(entropy, leaves), slopes(expected, leaves), strict=True):
        torch.testing.assert_close(got, want)


@exact
@leading_dimensions
def test_divergences_are_torchs(kind, leading):
    (ours, oracle, _), (other, other_oracle, _) = make(kind, leading), make(kind, leading)
    kl = ours.kl(other)
    assert kl.shape == (*leading, 1)
    if kind == "multi":
        pairs = zip(oracle.parts, other_oracle.parts, strict=True)
        expected = sum(torchs.kl_divergence(a, b) for a, b in pairs)
    else:
        expected = torchs.kl_divergence(oracle, other_oracle)
    torch.testing.assert_close(kl, expected.unsqueeze(-1))
    torch.testing.assert_close(ours.kl(ours.detach()), torch.zeros_like(kl), atol=1e-12, rtol=0)


@kinds
@leading_dimensions
def test_samples_have_their_shape_and_no_gradient(kind, leading):
    ours, oracle, _ = make(kind, leading)
    action = ours.sample()
    event = {"categorical": 1}.get(kind, 3)
    assert action.shape == ours.mode().shape == (*leading, event)
    assert not action.requires_grad
    discrete = kind in ("categorical", "multi")
    assert action.dtype is (torch.int64 if discrete else torch.float64)
    if kind != "tanh":  # torch's is not exact near the bounds
        torch.testing.assert_close(ours.log_prob(action), of_action(oracle, action, kind))
    action, log_prob, entropy = ours.draw()
    assert log_prob.shape == entropy.shape == (*leading, 1)
    assert log_prob.requires_grad and entropy.requires_grad


@kinds
def test_samples_are_as_frequent_as_they_should_be(kind):
    """Mean and deviation of each entry, against torch's."""
    torch.manual_seed(0)
    ours, oracle, _ = make(kind, ())
    many = remade(ours, lambda x: x.expand(40_000, *x.shape))
    mine = many.sample().double()
    torch.manual_seed(1)
    theirs = torch.stack([oracle.sample() for _ in range(4_000)]).double()
    theirs = theirs.unsqueeze(-1) if kind == "categorical" else theirs
    spread = theirs.std(0)
    assert ((mine.mean(0) - theirs.mean(0)).abs() < 0.1 * spread).all()
    assert ((mine.std(0) - spread).abs() < 0.1 * spread).all()


@kinds
def test_detached_ones_carry_no_gradient(kind):
    ours, *_ = make(kind, (7,))
    fixed = ours.detach()
    assert type(fixed) is type(ours)
    action = ours.sample()
    assert torch.equal(fixed.log_prob(action), ours.log_prob(action))
    assert not fixed.log_prob(action).requires_grad and not fixed.entropy().requires_grad
    assert fixed.kl(ours).requires_grad and ours.kl(fixed).requires_grad


@kinds
def test_no_rows_are_no_trouble(kind):
    ours = remade(make(kind, (2,)).ours, lambda x: x[:0])
    action, log_prob, entropy = ours.draw()
    assert len(action) == len(log_prob) == len(entropy) == len(ours.mode()) == 0


@kinds
def test_others_of_another_kind_are_refused(kind):
    ours, *_ = make(kind, (2,))
    other, *_ = make(KINDS[KINDS.index(kind) - 1], (2,))
    name = type(ours).__name__
    with pytest.raises(
        TypeError, match=f"{name}.kl: other must be a {name}, got {type(other).__name__}"
    ):
        ours.kl(other)


# -- discrete ones -----------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (7,), (5, 7)])
def test_masked_actions_are_never_taken(leading):
    torch.manual_seed(0)
    logits = randn(*leading, sum(SIZES)).requires_grad_()
    mask = torch.rand(*leading, sum(SIZES)) < 0.5
    mask[..., [0, 2, 6]] = True
    several = MultiCategorical(logits, SIZES, mask)
    one = Categorical(logits, mask)
    for _ in range(8):
        assert mask.gather(-1, one.sample()).all()
        first = several.sample() + torch.tensor([0, 2, 6])
        assert mask.gather(-1, first).all()
    assert mask.gather(-1, one.mode()).all()
    assert mask.gather(-1, several.mode() + torch.tensor([0, 2, 6])).all()
    oracle = torchs.Categorical(logits=logits.masked_fill(~mask, -1e30))
    action = one.sample()
    expected = oracle.log_prob(action.squeeze(-1)).unsqueeze(-1)
    torch.testing.assert_close(one.log_prob(action), expected)
    torch.testing.assert_close(one.log_probs().exp(), oracle.probs)
    loss = (one.draw()[1] + one.entropy() + several.entropy() + several.draw()[1]).sum()
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope.isfinite().all() and (slope[~mask] == 0).all()
    assert one.detach().action_mask is mask and several.detach().action_mask is mask


@pytest.mark.parametrize("kind", ["categorical", "multi", "mixture"])
def test_what_cannot_be_reparameterised_says_so(kind):
    ours, *_ = make(kind, (2,))
    name = type(ours).__name__
    with pytest.raises(
        NotImplementedError,
        match=rf"{name}\.rsample: self must be reparameterised, got {name}\. Use sample",
    ):
        ours.rsample()


def test_modes_are_the_likeliest_actions():
    logits = torch.tensor([[0.0, 2, 1, 5, 4]])
    assert Categorical(logits).mode().tolist() == [[3]]
    assert MultiCategorical(logits, (3, 2)).mode().tolist() == [[1, 0]]
    mask = torch.tensor([[True, True, True, False, True]])
    assert Categorical(logits, mask).mode().tolist() == [[4]]


def test_actions_of_another_shape_or_dtype_are_refused():
    ours = Categorical(torch.zeros(4, 3))
    with pytest.raises(
        ValueError, match=r"Categorical\.log_prob: action must have shape \[4, 1\], got \[4\]"
    ):
        ours.log_prob(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"categorical_log_prob: action must be int64"):
        ours.log_prob(torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"action must have shape \[4, 3\], got \[4, 1\]"):
        Gaussian(torch.zeros(4, 3), torch.zeros(3)).log_prob(torch.zeros(4, 1))


# -- continuous ones ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "tanh"])
def test_gradients_flow_through_rsample(kind):
    torch.manual_seed(0)
    ours, oracle, leaves = make(kind, (7,))
    torch.manual_seed(1)
    action = ours.rsample()
    torch.manual_seed(1)
    expected = oracle.rsample()
    torch.testing.assert_close(action, expected)
    for got, want in zip(slopes(action, leaves), slopes(expected, leaves), strict=True):
        torch.testing.assert_close(got, want)


def test_one_deviation_serves_all_states():
    log_std = torch.tensor([0.1, -0.3, 0.0]).double()
    mean = randn(5, 7, 3)
    one, full = Gaussian(mean, log_std), Gaussian(mean, log_std.expand(5, 7, 3))
    action = one.sample()
    assert torch.equal(one.log_prob(action), full.log_prob(action))
    assert torch.equal(one.entropy(), full.entropy()) and one.entropy().shape == (5, 7, 1)


def test_drawn_squashed_actions_have_their_exact_log_probability():
    torch.manual_seed(0)
    ours, *_ = make("tanh", (1000,))
    action, log_prob, entropy = ours.draw()
    assert action.requires_grad and torch.equal(entropy, -log_prob)
    # Some lie so near to a bound that the action alone does not tell how near.
    inside = ((action - LOW) / (HIGH - LOW) - 0.5).abs().amax(1) < 0.499
    torch.testing.assert_close(ours.log_prob(action)[inside], log_prob[inside])


def test_squashed_actions_keep_to_their_bounds():
    low, high = torch.tensor([0.1, -0.4]), torch.tensor([0.7, 0.4])
    mean = torch.tensor([-50.0, 50.0]).view(2, 1).expand(2, 2)
    ours = TanhGaussian(mean, torch.zeros(2), low, high)
    for action in (ours.mode(), ours.sample(), ours.draw()[0]):
        torch.testing.assert_close(action, torch.stack([low, high]))
        assert (low <= action).all() and (action <= high).all()
    action, log_prob, _ = ours.draw()
    assert log_prob.isfinite().all() and ours.log_prob(action).isfinite().all()


def test_without_bounds_given_these_are_1():
    mean, log_std = randn(6, 3), randn(6, 3)
    one, two = torch.ones(()).double(), torch.ones(3).double()
    ours, same = TanhGaussian(mean, log_std), TanhGaussian(mean, log_std, -two, one)
    action = ours.sample()
    assert torch.equal(ours.log_prob(action), same.log_prob(action))
    torch.testing.assert_close(ours.mode(), mean.tanh())


def test_the_divergence_of_squashed_ones_is_that_of_the_gaussians():
    a, b = make("tanh", (7,)).ours, make("tanh", (7,)).ours
    expected = Gaussian(a.mean, a.log_std).kl(Gaussian(b.mean, b.log_std))
    assert torch.equal(a.kl(b), expected)


def squashed(leaves: Sequence[Tensor]) -> TanhGaussian:
    return TanhGaussian(*leaves, torch.tensor(-1.0).double(), torch.tensor(3.0).double())


def mixed(leaves: Sequence[Tensor]) -> GaussianMixture:
    return GaussianMixture(*leaves)


def parameters(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [(0.5 * randn(*shape)).requires_grad_() for shape in shapes]


def many(n: int, leaves: Sequence[Tensor]) -> list[Tensor]:
    """For n states the same parameters."""
    return [leaf.expand(n, *leaf.shape) for leaf in leaves]


@pytest.mark.parametrize(
    ("build", "shapes", "low", "high"),
    [
        (squashed, ((1,), (1,)), -1 + 1e-6, 3 - 1e-6),
        (mixed, ((2,), (2, 1), (2, 1)), -15, 15),
    ],
)
def test_estimates_of_entropies_are_right_in_the_mean_and_so_are_their_gradients(
    build, shapes, low, high
):
    """Against quadrature over actions of one dimension."""
    torch.manual_seed(0)
    leaves, points = parameters(*shapes), torch.linspace(low, high, 20_001).double()
    estimate = build(many(100_000, leaves)).entropy().mean()
    log_prob = build(many(len(points), leaves)).log_prob(points.unsqueeze(1)).squeeze(1)
    expected = torch.trapezoid(-log_prob.exp() * log_prob, points)
    torch.testing.assert_close(estimate, expected, atol=0.01, rtol=0)
    for got, want in zip(slopes(estimate, leaves), slopes(expected, leaves), strict=True):
        torch.testing.assert_close(got, want, atol=0.02, rtol=0)


def test_estimates_of_divergences_are_right_in_the_mean_and_so_are_their_gradients():
    torch.manual_seed(0)
    shapes, points = ((2,), (2, 1), (2, 1)), torch.linspace(-15, 15, 20_001).double()
    leaves, others = parameters(*shapes), parameters(*shapes)
    estimate = mixed(many(100_000, leaves)).kl(mixed(many(100_000, others))).mean()
    p, q = (
        mixed(many(len(points), each)).log_prob(points.unsqueeze(1)).squeeze(1)
        for each in (leaves, others)
    )
    expected = torch.trapezoid(p.exp() * (p - q), points)
    torch.testing.assert_close(estimate, expected, atol=0.01, rtol=0)
    every = [*leaves, *others]
    for got, want in zip(slopes(estimate, every), slopes(expected, every), strict=True):
        torch.testing.assert_close(got, want, atol=0.02, rtol=0)


def test_a_mixtures_mode_is_its_best_mean():
    logits = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, 5.0]])
    mean = torch.tensor([[[0.0], [0.1], [9.0]]]).expand(2, 3, 1)
    mode = GaussianMixture(logits, mean, torch.zeros(1)).mode()
    assert mode[1].item() == 9 and mode[0].item() < 1, "two that overlap outweigh the third"


def test_a_mixture_of_one_is_a_gaussian():
    mean, log_std = randn(6, 3), randn(6, 3)
    one = GaussianMixture(torch.zeros(6, 1).double(), mean.unsqueeze(1), log_std.unsqueeze(1))
    gaussian, action = Gaussian(mean, log_std), randn(6, 3)
    torch.testing.assert_close(one.log_prob(action), gaussian.log_prob(action))
    assert torch.equal(one.mode(), mean)
    estimate = mixed(many(20_000, (one.logits, one.mean, one.log_std))).entropy().mean(0)
    torch.testing.assert_close(estimate, gaussian.entropy(), atol=0.05, rtol=0)
    assert math.isfinite(one.kl(one).sum())

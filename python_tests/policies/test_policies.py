"""What all policies promise, and what is particular to each."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from machin_fast.model import safe_call
from machin_fast.model.nets import MLP, Chain, Flat, Named, NoisyLinear, Recurrent, without_noise
from machin_fast.policies import (
    CategoricalPolicy,
    DeterministicPolicy,
    GaussianMixturePolicy,
    GaussianPolicy,
    MultiCategoricalPolicy,
    Policy,
    TanhGaussianPolicy,
)
from machin_fast.policies.distributions import (
    Categorical,
    Gaussian,
    GaussianMixture,
    MultiCategorical,
    TanhGaussian,
)

LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([-1.0, 5.0], np.float32)
# For each: numbers that its network returns, how it is made of it, entries of an action.
KINDS = {
    "categorical": (4, CategoricalPolicy, 1),
    "multi_categorical": (5, lambda net: MultiCategoricalPolicy(net, [3, 2]), 2),
    "gaussian": (2, lambda net: GaussianPolicy(net, 2), 2),
    "gaussian_of_state": (4, lambda net: GaussianPolicy(net, 2, state_dependent=True), 2),
    "tanh_gaussian": (4, lambda net: TanhGaussianPolicy(net, LOW, HIGH), 2),
    "gaussian_mixture": (15, lambda net: GaussianMixturePolicy(net, 2, 3), 2),
}
kinds = pytest.mark.parametrize("kind", KINDS)
CONTINUOUS = [kind for kind in KINDS if "categorical" not in kind]


def policy(kind: str, wrap=lambda net: net) -> Policy:
    outputs, make, _ = KINDS[kind]
    return make(wrap(MLP(3, outputs, (8,))))


def recurrent(kind: str) -> Policy:
    outputs, make, _ = KINDS[kind]
    return make(Recurrent(MLP(3, 8), 6, "lstm", head=MLP(6, outputs, ())))


# -- what all promise --------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("leading", [(), (1,), (7,), (5, 7), (0,)])
def test_it_returns_action_log_probability_and_entropy(kind, leading, dtype):
    actor = policy(kind).to(dtype)
    action, log_prob, entropy = actor(torch.randn(*leading, 3, dtype=dtype))
    assert action.shape == (*leading, KINDS[kind][2])
    assert action.dtype is (torch.int64 if "categorical" in kind else dtype)
    assert log_prob.shape == entropy.shape == (*leading, 1)
    assert log_prob.dtype is entropy.dtype is dtype
    assert action.requires_grad == (kind == "tanh_gaussian")


@kinds
def test_an_action_given_is_judged(kind):
    actor, state = policy(kind).double(), torch.randn(7, 3).double()
    action, log_prob, entropy = actor(state)
    same, judged, again = actor(state, action=action)
    assert same is action
    torch.testing.assert_close(judged, log_prob)
    if kind not in ("tanh_gaussian", "gaussian_mixture"):
        assert torch.equal(again, entropy)
    distribution = actor.distribution(state)
    assert torch.equal(distribution.log_prob(action), judged)
    assert torch.equal(actor.mode(state), distribution.mode())


@kinds
def test_gradients_reach_all_parameters(kind, device):
    actor = policy(kind).to(device)
    _, log_prob, entropy = actor(torch.randn(7, 3, device=device))
    (log_prob + entropy * 0.1).square().sum().backward()
    for name, parameter in actor.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero(), name


@kinds
def test_safe_call_finds_arguments_by_name(kind, device):
    actor = policy(kind).to(device)
    state = {"state": torch.randn(7, 3), "goal": 1}
    action, *_ = safe_call(actor, state)
    assert action.device.type == device.type
    same, log_prob, _ = safe_call(actor, state, {"action": action.detach()})
    assert torch.equal(same, action) and log_prob.shape == (7, 1)
    (distribution,) = safe_call(actor, state, {"action": action}, method="distribution")
    assert distribution.kl(distribution).shape == (7, 1)
    assert safe_call(actor, state, method="mode")[0].shape == action.shape


@kinds
def test_networks_of_any_arguments_are_called_by_name(kind):
    outputs, make, _ = KINDS[kind]

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(5, outputs)

        def forward(self, position, goal=None):
            return self.body(torch.cat([position, goal], -1))

    encoder = Named({"position": Flat((3,)), "goal": Flat((2,))})
    state = {"position": torch.randn(4, 3), "goal": torch.randn(4, 2), "other": 1}
    for net in (Own(), Chain(encoder, MLP(5, outputs))):
        actor = make(net)
        action, log_prob, entropy = safe_call(actor, state)
        assert len(action) == len(log_prob) == len(entropy) == 4
        assert {"position", "goal", "action"} <= actor.input_names
    by_position = make(Own())(state["position"], state["goal"])
    assert len(by_position) == 3


@kinds
def test_the_state_of_a_recurrent_network_comes_last(kind):
    actor = recurrent(kind)
    state, hidden = torch.randn(4, 3), torch.randn(4, 12)
    *drawn, new = actor(state, hidden=hidden)
    action, log_prob, _, same = actor(state, action=drawn[0].detach(), hidden=hidden)
    distribution, also = actor.distribution(state, hidden=hidden)
    mode, too = actor.mode(state, hidden=hidden)
    assert new.shape == (4, 12) and mode.shape == action.shape and actor.recurrent
    assert torch.equal(new, same) and torch.equal(new, also) and torch.equal(new, too)
    torch.testing.assert_close(log_prob, distribution.log_prob(action))


@kinds
def test_sequences_are_judged_as_their_steps(kind):
    actor = recurrent(kind).double()
    state, hidden = torch.randn(5, 4, 3).double(), torch.randn(4, 12).double()
    reset = torch.rand(5, 4) < 0.3
    action = actor(state, hidden=hidden, reset=reset)[0].detach()
    _, log_prob, entropy, last = safe_call(
        actor, {"state": state}, {"action": action}, {"hidden": hidden, "reset": reset}
    )
    assert log_prob.shape == entropy.shape == (5, 4, 1)
    for t in range(5):
        _, expected, _, hidden = actor(state[t], action=action[t], hidden=hidden, reset=reset[t])
        torch.testing.assert_close(log_prob[t], expected)
    torch.testing.assert_close(last, hidden)


@kinds
def test_a_plain_network_ignores_hidden_states(kind):
    actor = policy(kind)
    assert len(actor(torch.randn(4, 3), hidden=None, reset=torch.ones(4) > 0)) == 3
    assert not actor.recurrent


@kinds
def test_copies_pickles_and_state_dicts(kind):
    actor, other, state = policy(kind), policy(kind), torch.randn(4, 3)
    other.load_state_dict(actor.state_dict())
    for twin in (copy.deepcopy(actor), pickle.loads(pickle.dumps(actor)), other):
        assert torch.equal(twin.mode(state), actor.mode(state))
        torch.manual_seed(3)
        expected = actor(state)
        torch.manual_seed(3)
        assert all(map(torch.equal, twin(state), expected))
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(1)
    assert not torch.equal(actor.state_dict()["net.layers.0.weight"], twin.net.layers[0].weight)


@kinds
def test_greedy_actions_without_noise_are_always_the_same(kind):
    outputs, make, _ = KINDS[kind]
    actor, state = make(MLP(3, outputs, (8,), linear=NoisyLinear)), torch.randn(4, 3)
    with without_noise(actor):
        assert torch.equal(actor.mode(state), actor.mode(state))


@kinds
@pytest.mark.compile
def test_it_compiles_in_one_piece(kind):
    torch.compiler.reset()
    actor, state = policy(kind), torch.randn(4, 3)
    compiled = torch.compile(actor, fullgraph=True, backend="aot_eager")
    action, log_prob, entropy = safe_call(compiled, {"state": state})
    _, judged, again = compiled(state, action=action.detach())
    assert torch.equal(judged, actor(state, action=action.detach())[1])
    (log_prob + entropy + judged + again).sum().backward()


@pytest.mark.compile
def test_it_compiles_to_code():
    torch.compiler.reset()
    actor, state = policy("gaussian"), torch.randn(4, 3)
    compiled = torch.compile(actor, fullgraph=True)
    action, log_prob, _ = compiled(state)
    torch.testing.assert_close(log_prob, actor(state, action=action)[1])


def test_signatures_are_machins():
    parameters = inspect.signature(Policy.forward).parameters
    assert parameters["action"].default is None
    assert CategoricalPolicy(MLP(3, 2)).input_names == {"state", "action", "action_mask"}


# -- discrete ones -----------------------------------------------------------------------------


def test_distributions_are_of_what_the_network_returns():
    state = torch.randn(4, 3)
    for kind, expected in (
        ("categorical", lambda x: Categorical(x)),
        ("multi_categorical", lambda x: MultiCategorical(x, (3, 2))),
        ("gaussian", lambda x: Gaussian(x, torch.zeros(2))),
        ("gaussian_of_state", lambda x: Gaussian(x[:, :2], x[:, 2:])),
        (
            "tanh_gaussian",
            lambda x: TanhGaussian(x[:, :2], x[:, 2:], *map(torch.tensor, (LOW, HIGH))),
        ),
        (
            "gaussian_mixture",
            lambda x: GaussianMixture(x[:, :3], x[:, 3:9].view(4, 3, 2), x[:, 9:].view(4, 3, 2)),
        ),
    ):
        actor = policy(kind)
        got, want = actor.distribution(state), expected(actor.net(state))
        assert type(got) is type(want)
        action = want.sample()
        torch.testing.assert_close(got.log_prob(action), want.log_prob(action))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8])
@pytest.mark.parametrize("kind", ["categorical", "multi_categorical"])
def test_masks_are_honoured_and_not_shown_to_the_network(kind, dtype):
    torch.manual_seed(0)
    actor = policy(kind)
    state = {
        "state": torch.randn(50, 3),
        "action_mask": torch.zeros(50, KINDS[kind][0], dtype=dtype),
    }
    state["action_mask"][:, [0, 3]] = 1
    allowed = ([0, 3],) if kind == "categorical" else ([0], [0])
    action, log_prob, _ = safe_call(actor, state)
    for column, choices in zip(action.unbind(1), allowed, strict=True):
        assert set(column.tolist()) == set(choices)
    assert log_prob.isfinite().all()
    assert torch.equal(safe_call(actor, state, {"action": action})[1], log_prob)
    (mode,) = safe_call(actor, state, method="mode")
    assert set(mode[:, 0].tolist()) <= set(allowed[0])


def test_a_network_that_wants_the_mask_gets_it():
    class Curious(nn.Module):
        def forward(self, state, action_mask):
            assert action_mask.dtype is torch.int8
            return state

    state = {"state": torch.zeros(1, 2), "action_mask": torch.tensor([[0, 1]]).to(torch.int8)}
    assert safe_call(CategoricalPolicy(Curious()), state)[0].item() == 1

    class Anything(nn.Module):
        def forward(self, **kwargs):
            assert set(kwargs) == {"state"}
            return kwargs["state"]

    assert safe_call(CategoricalPolicy(Anything()), state)[0].item() == 1


# -- continuous ones ---------------------------------------------------------------------------


def test_the_deviation_is_a_parameter_unless_it_is_the_networks():
    actor = GaussianPolicy(MLP(3, 2), 2, log_std=-1)
    assert actor.log_std.tolist() == [-1, -1] and isinstance(actor.log_std, nn.Parameter)
    assert policy("gaussian_of_state").log_std is None


@pytest.mark.parametrize("kind", ["gaussian_of_state", "tanh_gaussian", "gaussian_mixture"])
def test_deviations_of_the_network_are_clamped(kind):
    class Wild(nn.Module):
        def forward(self, state):
            return state

    outputs, make, _ = KINDS[kind]
    for sign, bound in ((1, 2), (-1, -20)):
        log_std = make(Wild()).distribution(sign * torch.full((1, outputs), 1e3)).log_std
        assert (log_std == bound).all()


def test_drawn_squashed_actions_carry_the_gradient_of_the_policy():
    torch.manual_seed(0)
    actor = policy("tanh_gaussian").double()
    state = torch.randn(7, 3).double()
    torch.manual_seed(1)
    action, log_prob, entropy = actor(state)
    torch.manual_seed(1)
    expected = actor.distribution(state).rsample()
    assert torch.equal(action, expected) and torch.equal(entropy, -log_prob)
    assert (torch.tensor(LOW) <= action).all() and (action <= torch.tensor(HIGH)).all()
    slopes = torch.autograd.grad(action.sum(), list(actor.parameters()))
    assert all(slope.count_nonzero() for slope in slopes)


@pytest.mark.parametrize("leading", [(1,), (7,), (5, 7)])
def test_deterministic_actions_are_squashed_into_their_bounds(leading):
    actor = DeterministicPolicy(MLP(3, 2), LOW, HIGH).double()
    state = torch.randn(*leading, 3).double()
    action = actor(state)
    low, high = torch.tensor(LOW).double(), torch.tensor(HIGH).double()
    torch.testing.assert_close(action, low + (high - low) * (actor.net(state).tanh() + 1) / 2)
    assert isinstance(action, Tensor) and torch.equal(actor.mode(state), action)
    assert safe_call(actor, {"state": state, "other": 1})[0].requires_grad
    assert torch.equal(actor.state_dict()["low"], low)


def test_recurrent_deterministic_policies_return_their_state():
    actor = DeterministicPolicy(Recurrent(MLP(3, 4), 2))
    action, hidden = actor(torch.randn(5, 3), hidden=torch.zeros(5, 2))
    assert action.shape == hidden.shape == (5, 2) and actor.recurrent


def test_bounds_may_be_numbers():
    actor = TanhGaussianPolicy(MLP(3, 4), -1, 3)
    action, log_prob, _ = actor(torch.randn(6, 3))
    assert action.shape == (6, 2) and log_prob.shape == (6, 1)
    full = TanhGaussianPolicy(actor.net, [-1, -1], torch.tensor([3.0, 3.0]))
    state, given = torch.randn(6, 3), action.detach()
    torch.testing.assert_close(full(state, action=given)[1], actor(state, action=given)[1])
    assert (DeterministicPolicy(MLP(3, 2), 0, 1)(torch.randn(9, 3)) >= 0).all()


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda net: MultiCategoricalPolicy(net, []),
            r"MultiCategoricalPolicy: nvec must be one or more numbers, each at least 1, got \[\]",
        ),
        (lambda net: GaussianPolicy(net, 0), "GaussianPolicy: action_dim must be 1 or more, got 0"),
        (
            lambda net: GaussianPolicy(net, 2, log_std_range=(1, 1)),
            r"GaussianPolicy: log_std_range must be \(low, high\), got \(1, 1\)",
        ),
        (
            lambda net: GaussianMixturePolicy(net, 2, 0),
            "GaussianMixturePolicy: components must be 1 or more, got 0",
        ),
        (
            lambda net: TanhGaussianPolicy(net, 1, -1),
            r"TanhGaussianPolicy: low must be below high, both finite, got 1\.0 and -1\.0",
        ),
        (
            lambda net: DeterministicPolicy(net, [0, -torch.inf], 1),
            r"DeterministicPolicy: low must be below high, both finite, "
            r"got \[0\.0, -inf\] and 1\.0",
        ),
        (
            lambda net: DeterministicPolicy(net, [0, 0], [1, 1, 1]),
            r"DeterministicPolicy: low and high must be numbers or \[action_dim\], "
            r"got \[2\] and \[3\]",
        ),
        (
            lambda net: DeterministicPolicy(net, [[0.0]], 1),
            r"DeterministicPolicy: low and high must be numbers or \[action_dim\], "
            r"got \[1, 1\] and \[\]",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make(MLP(3, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: MultiCategoricalPolicy(net, [2, 2]), r"\[\.\.\., 4\], got \[7, 3\]"),
        (lambda net: GaussianPolicy(net, 2), r"\[\.\.\., 2\], got \[7, 3\]"),
        (
            lambda net: GaussianPolicy(net, 2, state_dependent=True),
            r"\[\.\.\., 4\], got \[7, 3\]",
        ),
        (lambda net: TanhGaussianPolicy(net, LOW, HIGH), r"\[\.\.\., 4\], got \[7, 3\]"),
        (lambda net: TanhGaussianPolicy(net), r"\[\.\.\., 2 \* action_dim\], got \[7, 3\]"),
        (lambda net: GaussianMixturePolicy(net, 2, 3), r"\[\.\.\., 15\], got \[7, 3\]"),
        (lambda net: DeterministicPolicy(net, LOW, HIGH), r"\[\.\.\., 2\], got \[7, 3\]"),
    ],
)
def test_networks_of_another_width_are_refused(make, message):
    actor = make(MLP(3, 3))
    with pytest.raises(ValueError, match=f"^{type(actor).__name__}: net must return {message}"):
        actor(torch.zeros(7, 3))

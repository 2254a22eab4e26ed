"""Noise on parameters: Machin's numbers, what stays untouched, what adapts."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from machin_fast.noise.generator import NormalNoiseGen, OrnsteinUhlenbeckNoiseGen
from machin_fast.noise.param_space_noise import AdaptiveParamNoise, perturb_model


class Switch:
    def __init__(self, on: bool = False) -> None:
        self.is_on = on

    def get(self) -> bool:
        return self.is_on


class Counted(Switch):
    """Counts how often it is looked at."""

    looks = 0

    def get(self) -> bool:
        self.looks += 1
        return self.is_on


def network(device="cpu", seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(device)


def values(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def perturbed(model, reset=False, **kwargs):
    """Switch for noise, switch for new noise, and what ends it."""
    perturb, renew = Switch(True), Switch(reset)
    return perturb, renew, perturb_model(model, perturb, renew, **kwargs)


# -- Machin's numbers --------------------------------------------------------------------------


def test_numbers_of_seed_0_are_those_of_machin():
    # Printed by machin 0.4.2 with torch 2.13 for the example of its documentation.
    torch.manual_seed(0)
    model, x = nn.Linear(5, 5), torch.ones(5)
    optim = torch.optim.Adam(model.parameters(), 1e-3)
    perturb, renew = Switch(), Switch(True)
    cancel = perturb_model(model, perturb, renew)

    perturb.is_on = True
    noisy = model(x)
    perturb.is_on = False
    action = model(x)
    (action - x).sum().backward()
    optim.step()
    perturb.is_on = True
    noisy_again = model(x)
    cancel()

    for got, expected in (
        (noisy, [-0.80340594, 0.88719785, -1.74297285, -0.30399305, 0.28323123]),
        (action, [-0.58556706, 0.94924593, -1.54570544, -0.31776327, 0.59111261]),
        (model.weight[0], [-0.00434821, 0.23890486, -0.36907697, -0.33012193, -0.17324626]),
        (model.bias, [0.04632150, 0.40394127, -0.41586679, -0.28253791, -0.11421894]),
        (noisy_again, [-0.40373760, 1.11208093, -1.84462440, -0.35642651, 0.47265387]),
    ):
        torch.testing.assert_close(got, torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_noise_is_drawn_for_each_parameter_in_their_order():
    model = network()
    torch.manual_seed(1)
    expected = [p + 0.1 * torch.randn_like(p) for p in values(model)]
    perturbed(model)
    torch.manual_seed(1)
    noisy = model(torch.ones(1, 3))
    reference = network()
    for parameter, value in zip(reference.parameters(), expected, strict=True):
        parameter.data = value
    assert torch.equal(noisy, reference(torch.ones(1, 3)))


# -- what a forward does -----------------------------------------------------------------------


@pytest.mark.parametrize("grad", [True, False])
def test_noise_stays_until_it_is_reset(grad, device):
    model, x = network(device), torch.ones(1, 3, device=device)
    clean = model(x).detach()
    perturb, renew, cancel = perturbed(model)
    with torch.set_grad_enabled(grad):
        noisy = model(x)
        assert not torch.equal(noisy, clean)
        assert torch.equal(model(x), noisy)
        perturb.is_on = False
        assert torch.equal(model(x), clean)
        perturb.is_on = True
        assert torch.equal(model(x), noisy)
        renew.is_on = True
        assert not torch.equal(model(x), noisy)
        assert not torch.equal(model(x), model(x))
        cancel()
        assert torch.equal(model(x), clean)


def test_new_noise_is_around_the_parameters_and_not_around_older_noise():
    model, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
    nn.init.zeros_(model.weight)
    perturbed(model, reset=True, adaptive_noise=AdaptiveParamNoise(initial_stddev=1.0))
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = torch.cat([model(x) for _ in range(2000)])
    assert outputs.std().item() == pytest.approx(1, abs=0.08)


def test_parameters_are_never_touched(device):
    model = network(device)
    before, versions = values(model), [p._version for p in model.parameters()]
    identities = [*map(id, model.parameters())]
    perturbed(model, reset=True)
    for _ in range(3):
        model(torch.ones(1, 3, device=device)).sum().backward()
    assert same(values(model), before)
    assert [p._version for p in model.parameters()] == versions
    assert [*map(id, model.parameters())] == identities


def test_parameters_are_back_when_forward_fails():
    model = network()
    before = values(model)
    _, _, cancel = perturbed(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.ones(1, 7))
    assert same(values(model), before)
    model(torch.ones(1, 3))
    cancel()


def test_gradients_are_those_at_the_noisy_parameters(device):
    model, x = network(device), torch.randn(5, 3, device=device)
    noise = [0.1 * torch.randn_like(p) for p in model.parameters()]
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, each in zip(reference.parameters(), noise, strict=True):
            parameter += each
    reference(x).square().sum().backward()

    left = iter(noise)
    perturbed(model, noise_generate_function=lambda *_: next(left))
    model(x).square().sum().backward()
    for got, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


def test_an_optimizer_steps_from_the_parameters_without_noise():
    model, x = nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    before = model.weight.detach().clone()
    perturbed(model)
    model(x).sum().backward()
    torch.optim.SGD(model.parameters(), 0.5).step()
    assert torch.equal(model.weight, before - 0.5)


def test_a_graph_of_before_survives_a_forward_with_noise():
    model, x = network(), torch.ones(1, 3)
    perturb, _, _ = perturbed(model, reset=True)
    perturb.is_on = False
    loss = model(x).sum()
    perturb.is_on = True
    model(x)
    loss.backward()


def test_noise_follows_parameters_that_change():
    model, x = nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    perturbed(model)
    with torch.no_grad():
        before = model(x)
        model.weight += 1
        torch.testing.assert_close(model(x), before + 2)
        model.load_state_dict({"weight": model.weight + 1})
        torch.testing.assert_close(model(x), before + 4)
        model.weight = nn.Parameter(model.weight + 1)
        torch.testing.assert_close(model(x), before + 6)
        model.weight.data = model.weight + 1
        torch.testing.assert_close(model(x), before + 8)


def test_noise_follows_a_model_that_moves(device):
    model = nn.Linear(2, 1)
    perturbed(model)
    with torch.no_grad():
        before = model(torch.ones(1, 2))
        model.to(device, torch.float64)
        after = model(torch.ones(1, 2, dtype=torch.float64, device=device))
    assert after.device.type == device.type
    torch.testing.assert_close(after.cpu().float(), before)


def test_without_gradients_nothing_is_computed_again():
    model, x = nn.Linear(2, 1), torch.ones(1, 2)
    seen = []
    model.register_forward_pre_hook(lambda net, _: seen.append(net.weight))
    perturb, renew = Switch(True), Switch()
    perturb_model(model, perturb, renew)
    model.register_forward_pre_hook(lambda net, _: seen.append(net.weight))
    with torch.no_grad():
        model(x)
        model(x)
    clean, noisy, clean_again, noisy_again = seen
    assert clean is clean_again is model.weight
    assert noisy is noisy_again is not clean


def test_inference_mode_draws_noise_that_training_can_use():
    model, x = network(), torch.ones(1, 3)
    perturbed(model)
    with torch.inference_mode():
        noisy = model(x)
    again = model(x)
    again.sum().backward()
    assert torch.equal(again, noisy)


def test_tied_parameters_have_the_same_noise():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
            self.second.weight = self.first.weight

        def forward(self):
            return self.first.weight - self.second.weight

    model = Tied()
    perturbed(model)
    assert model().count_nonzero() == 0
    assert len(list(model.parameters())) == 3


@pytest.mark.parametrize("grad", [True, False])
def test_recurrent_networks_get_noise_and_can_be_copied(grad):
    torch.manual_seed(0)
    model, x = nn.GRU(2, 3), torch.ones(4, 1, 2)
    clean = model(x)[0].detach()
    perturb, _, _ = perturbed(model)
    with torch.set_grad_enabled(grad):
        assert not torch.equal(model(x)[0], clean)
        assert torch.equal(copy.deepcopy(model)(x)[0], clean)
        perturb.is_on = False
        assert torch.equal(model(x)[0], clean)


def test_frozen_parameters_get_noise_and_no_gradient():
    model, x = nn.Linear(2, 1), torch.ones(1, 2)
    model.requires_grad_(False)
    clean = model(x)
    perturbed(model, debug_backward=True)
    noisy = model(x)
    assert not torch.equal(noisy, clean) and not noisy.requires_grad


def test_a_model_without_parameters_runs():
    model = nn.Tanh()
    perturbed(model)
    assert model(torch.zeros(1)) == 0


# -- hooks -------------------------------------------------------------------------------------


def test_cancel_removes_every_hook_and_may_be_called_twice():
    model = network()
    _, _, cancel = perturbed(model, debug_backward=True)
    cancel()
    cancel()
    assert not model._forward_hooks and not model._forward_pre_hooks
    assert not any(parameter._backward_hooks for parameter in model.parameters())


@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_and_files_run_without_noise_and_the_model_with(twin_of):
    model, x = network(), torch.ones(1, 3)
    clean = model(x)
    perturbed(model)
    noisy = model(x)
    twin = twin_of(model)
    before = values(model)
    assert torch.equal(twin(x), clean)
    twin(x).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert same(values(model), before)
    assert torch.equal(model(x), noisy)
    assert torch.equal(twin_of(twin)(x), clean)


def test_the_switch_for_new_noise_is_asked_where_there_is_noise():
    model, x = network(), torch.ones(1, 3)
    perturb, renew = Counted(True), Counted()
    perturb_model(model, perturb, renew)
    model(x)
    assert (perturb.looks, renew.looks) == (1, 0)
    model(x)
    assert (perturb.looks, renew.looks) == (2, 1)


def test_backward_tells_of_each_parameter(capsys):
    model = network()
    perturbed(model, debug_backward=True)
    model(torch.ones(1, 3)).sum().backward()
    told = sorted(capsys.readouterr().out.splitlines())
    assert told == [f"Backward swapped for {name}!"
                    for name in ("0.bias", "0.weight", "2.bias", "2.weight")]  # fmt: skip


# -- where noise is from -----------------------------------------------------------------------


def test_arguments_reach_the_generator():
    model, x = nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    clean = model(x).item()
    perturbed(model, noise_generator_args=(3.0,), noise_generator_kwargs={"sigma": 0.0})
    assert model(x).item() == pytest.approx(clean + 2 * 0.1 * 3.0)


def test_a_generator_makes_it_reproducible(device):
    outputs = []
    for _ in range(2):
        model = network(device)
        generator = torch.Generator().manual_seed(5)
        perturbed(model, reset=True, noise_generator_kwargs={"generator": generator})
        x = torch.ones(1, 3, device=device)
        outputs.append([model(x).tolist() for _ in range(3)])
        torch.rand(7)
    assert outputs[0] == outputs[1]


def test_each_parameter_keeps_its_generator():
    model, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
    nn.init.zeros_(model.weight)
    kwargs = {"mu": 100.0, "sigma": 0.0, "theta": 1.0, "dt": 0.5}
    perturbed(
        model, reset=True, noise_generator=OrnsteinUhlenbeckNoiseGen,
        noise_generator_kwargs=kwargs, adaptive_noise=AdaptiveParamNoise(initial_stddev=1.0),
    )  # fmt: skip
    assert [model(x).item() for _ in range(3)] == [50, 75, 87.5]


def test_a_function_of_ones_own_gets_shape_device_and_deviation(device):
    calls = []

    def draw(shape, device, std):
        calls.append((tuple(shape), device.type, std))
        return torch.ones(shape, device=device)

    model = nn.Linear(2, 3).to(device)
    x = torch.ones(1, 2, device=device)
    clean = model(x)
    perturbed(model, noise_generate_function=draw, noise_generator=None)
    torch.testing.assert_close(model(x), clean + 3)
    assert calls == [((3, 2), device.type, 0.1), ((3,), device.type, 0.1)]


# -- adaptation --------------------------------------------------------------------------------


def test_the_deviation_adapts_once_both_outputs_were_seen():
    model, x = network(), torch.ones(1, 3)
    adaptive, distances = AdaptiveParamNoise(desired_action_stddev=1.0), []

    def distance(noisy, clean):
        distances.append((noisy.tolist(), clean.tolist()))
        return 2.0 if len(distances) == 1 else 0.5

    perturb, _, _ = perturbed(model, distance_func=distance, adaptive_noise=adaptive)
    noisy = model(x)
    assert adaptive.get_dev() == 0.1
    perturb.is_on = False
    clean = model(x)
    assert distances == [(noisy.tolist(), clean.tolist())]
    assert adaptive.get_dev() == 0.1 / 1.01
    model(x)
    assert len(distances) == 1
    perturb.is_on = True
    model(x)
    assert adaptive.get_dev() == 0.1 / 1.01 * 1.01


def test_the_distance_is_euclidean_and_compared_with_the_desired():
    noise = torch.tensor([[3.0], [4.0]])
    for desired, factor in ((4.99, 1 / 1.01), (5.01, 1.01)):
        model = nn.Linear(1, 2, bias=False)
        adaptive = AdaptiveParamNoise(desired_action_stddev=desired)
        perturb, _, _ = perturbed(
            model, noise_generate_function=lambda *_: noise, adaptive_noise=adaptive
        )
        model(torch.ones(1, 1))
        perturb.is_on = False
        model(torch.ones(1, 1))
        assert adaptive.get_dev() == pytest.approx(0.1 * factor)


def test_new_noise_has_the_new_deviation():
    stddevs = []

    def draw(shape, device, std):
        stddevs.append(std)
        return torch.zeros(shape, device=device)

    model = nn.Linear(1, 1, bias=False)
    perturb, _, _ = perturbed(model, reset=True, noise_generate_function=draw)
    for _ in range(3):
        perturb.is_on = True
        model(torch.ones(1, 1))
        perturb.is_on = False
        model(torch.ones(1, 1))
    assert stddevs == pytest.approx([0.1, 0.1 * 1.01, 0.1 * 1.01**2])


def test_the_noise_finds_the_desired_distance():
    torch.manual_seed(0)
    model, x = nn.Linear(16, 1), torch.ones(1, 16)
    adaptive = AdaptiveParamNoise(0.001, desired_action_stddev=0.5, adoption_coefficient=1.05)
    perturb, _, _ = perturbed(model, reset=True, adaptive_noise=adaptive)
    stddevs = []
    with torch.no_grad():
        for _ in range(1500):
            perturb.is_on = True
            model(x)
            perturb.is_on = False
            model(x)
            stddevs.append(math.log(adaptive.get_dev()))
    # Half of the distances |N(0, 17 std^2)| are below 0.5 where 0.6745 * sqrt(17) * std = 0.5.
    expected = math.log(0.5 / (0.6745 * math.sqrt(17)))
    assert sum(stddevs[500:]) / 1000 == pytest.approx(expected, abs=0.1)


def test_of_several_outputs_the_first_counts():
    class Actor(nn.Linear):
        def forward(self, x):
            return super().forward(x), None, "log_prob"

    model, seen = Actor(2, 1), []
    perturb, _, _ = perturbed(model, distance_func=lambda a, b: seen.append((a, b)) or 0.0)
    model(torch.ones(1, 2))
    perturb.is_on = False
    model(torch.ones(1, 2))
    ((noisy, clean),) = seen
    assert noisy.shape == clean.shape == (1, 1)
    assert not noisy.requires_grad


# -- AdaptiveParamNoise ------------------------------------------------------------------------


def test_adapt_divides_above_the_desired_distance_and_multiplies_else():
    noise = AdaptiveParamNoise(0.2, 0.5, 1.1)
    for distance, expected in ((0.6, 0.2 / 1.1), (0.5, 0.2), (0.1, 0.2 * 1.1)):
        noise.adapt(distance)
        assert noise.get_dev() == pytest.approx(expected)


def test_it_prints_itself():
    assert (
        repr(AdaptiveParamNoise()) == "AdaptiveParamNoise(i_std=0.1, da_std=0.1, adpt_coeff=1.01)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "initial_stddev must be above 0, got 0.0"),
        ((0.1, -1), "desired_action_stddev must be at least 0, got -1"),
        ((0.1, 0.1, 0.9), "adoption_coefficient must be at least 1, got 0.9"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"AdaptiveParamNoise: {message}"):
        AdaptiveParamNoise(*arguments)


def test_a_refused_model_has_no_hooks():
    model = network()
    with pytest.raises(ValueError, match="sigma must be at least 0"):
        perturbed(model, noise_generator=NormalNoiseGen, noise_generator_kwargs={"sigma": -1})
    assert not model._forward_hooks and not model._forward_pre_hooks

"""Noise on actions: distributions, one tuple or one for each entry, shared processes."""

from __future__ import annotations

import pytest
import torch

from machin_fast.noise import action_space_noise
from machin_fast.noise.action_space_noise import (
    add_clipped_normal_noise_to_action,
    add_normal_noise_to_action,
    add_ou_noise_to_action,
    add_uniform_noise_to_action,
)
from machin_fast.noise.generator import OrnsteinUhlenbeckNoiseGen

INDEPENDENT = [
    (add_uniform_noise_to_action, (-1.0, 2.0), [(-1.0, 2.0), (3.0, 4.0)]),
    (add_normal_noise_to_action, (1.0, 2.0), [(1.0, 2.0), (-5.0, 0.1)]),
    (
        add_clipped_normal_noise_to_action,
        (1.0, 2.0, -1.0, 2.0),
        [(1.0, 2.0, -1.0, 2.0), (-5.0, 0.1, -5.0, -4.95)],
    ),
]
independent = pytest.mark.parametrize(("add", "one", "own"), INDEPENDENT)
N = 100_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def fresh_processes(monkeypatch):
    monkeypatch.setattr(action_space_noise, "_processes", {})


@independent
@pytest.mark.parametrize("shape", [[2], [1, 2], [7, 2], [3, 5, 2]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_the_result_is_like_the_action_which_is_left_alone(add, one, own, shape, dtype, device):
    action = torch.ones(shape, dtype=dtype, device=device)
    for parameters in (one, own, list(own), [list(each) for each in own]):
        noisy = add(action, parameters)
        assert noisy.shape == action.shape and noisy.dtype == dtype
        assert noisy.device == action.device
    assert (action == 1).all()


@independent
def test_noise_is_reproducible_on_every_device(add, one, own, device):
    action = torch.zeros(5, 2)
    for parameters in (one, own):
        expected = add(action, parameters, generator=seeded(3))
        got = add(action.to(device), parameters, generator=seeded(3))
        torch.testing.assert_close(got.cpu(), expected)
        assert not torch.equal(expected, add(action, parameters, generator=seeded(4)))


@independent
def test_the_ratio_is_a_factor_of_the_noise(add, one, own):
    action = torch.full((50, 2), 3.0)
    noise = add(action, own, generator=seeded()) - action
    got = add(action, own, 0.25, generator=seeded())
    torch.testing.assert_close(got, action + 0.25 * noise, atol=1e-6, rtol=0)


@independent
def test_gradients_pass(add, one, own):
    action = torch.zeros(3, 2, requires_grad=True)
    add(action, own).sum().backward()
    assert (action.grad == 1).all()


@independent
def test_equal_tuples_are_as_one(add, one, own):
    action = torch.zeros(6, 3)
    torch.testing.assert_close(
        add(action, [one] * 3, generator=seeded()), add(action, one, generator=seeded())
    )


def test_uniform_noise_is_uniform_in_each_entry():
    noise = add_uniform_noise_to_action(
        torch.zeros(N, 2), [(-1.0, 2.0), (3.0, 4.0)], generator=seeded()
    )
    for column, low, high in ((noise[:, 0], -1, 2), (noise[:, 1], 3, 4)):
        assert low <= column.min() and column.max() <= high
        share = torch.histc(column, bins=5, min=low, max=high) / N
        torch.testing.assert_close(share, torch.full((5,), 0.2), atol=0.007, rtol=0)


@pytest.mark.parametrize("parameters", [(1.0, 2.0), [(1.0, 2.0)]])
def test_normal_noise_is_normal(parameters):
    noise = add_normal_noise_to_action(torch.zeros(N, 1), parameters, generator=seeded())
    assert noise.mean().item() == pytest.approx(1, abs=0.03)
    assert noise.std().item() == pytest.approx(2, abs=0.03)
    assert (noise < -3).float().mean().item() == pytest.approx(0.0228, abs=0.003)
    torch.testing.assert_close(noise, torch.randn(N, 1, generator=seeded()) * 2 + 1)


@pytest.mark.parametrize("parameters", [(1.0, 2.0, -1.0, 2.0), [(1.0, 2.0, -1.0, 2.0)]])
def test_clipped_normal_noise_is_normal_within_its_bounds(parameters):
    noise = add_clipped_normal_noise_to_action(torch.zeros(N, 1), parameters, generator=seeded())
    assert noise.min() == -1 and noise.max() == 2
    assert (noise == -1).float().mean().item() == pytest.approx(0.1587, abs=0.006)
    assert (noise == 2).float().mean().item() == pytest.approx(0.3085, abs=0.008)
    assert (noise < 1).float().mean().item() == pytest.approx(0.5, abs=0.008)


def test_noise_is_clipped_before_it_is_scaled_and_added():
    action = torch.full((N, 1), 10.0)
    noisy = add_clipped_normal_noise_to_action(action, ratio=0.5, generator=seeded())
    assert noisy.min() == 9.5 and noisy.max() == 10.5


def test_defaults_are_those_of_machin():
    zeros = torch.zeros(N, 1)
    uniform = add_uniform_noise_to_action(zeros, generator=seeded())
    assert uniform.min() >= 0 and uniform.max() <= 1
    normal = add_normal_noise_to_action(zeros, generator=seeded())
    assert normal.mean().abs() < 0.016 and abs(normal.std() - 1) < 0.012
    clipped = add_clipped_normal_noise_to_action(zeros, generator=seeded())
    assert torch.equal(clipped, normal.clamp(-1, 1))


def test_noise_of_integer_actions_is_of_the_default_dtype():
    assert add_normal_noise_to_action(torch.zeros(2, 1, dtype=torch.int64)).dtype == torch.float32


@independent
def test_a_tuple_too_few_is_refused(add, one, own):
    with pytest.raises(
        ValueError,
        match=rf"{add.__name__}: Noise param length doesn't match the last dimension of action: "
        "noise_param must have 3 tuples, got 2",
    ):
        add(torch.zeros(4, 3), own)


@pytest.mark.parametrize(
    ("add", "parameters", "message"),
    [
        (add_uniform_noise_to_action, (1.0, 0.0), "min, max must be in order, got 1.0 and 0.0"),
        (add_uniform_noise_to_action, (1.0,), r"noise_param must be \(min, max\), got \(1.0,\)"),
        (add_normal_noise_to_action, (0.0, -1.0), "std must be at least 0, got -1.0"),
        (add_normal_noise_to_action, [(0, 1), (0, -1)], "std must be at least 0, got -1"),
        (
            add_clipped_normal_noise_to_action,
            (0.0, 1.0),
            r"noise_param must be \(mean, std, min, max\), got \(0.0, 1.0\)",
        ),
        (add_clipped_normal_noise_to_action, (0, 1, 2, 1), "min, max must be in order"),
    ],
)
def test_wrong_parameters_are_refused(add, parameters, message):
    with pytest.raises(ValueError, match=f"{add.__name__}: {message}"):
        add(torch.zeros(2, 2), parameters)


# -- Ornstein-Uhlenbeck ------------------------------------------------------------------------


def steps(*calls):
    """Noise of calls on an action of zeros, from one seed."""
    torch.manual_seed(0)
    return [add_ou_noise_to_action(torch.zeros(1, 2), *call) for call in calls]


def expected_steps(n, **parameters):
    torch.manual_seed(0)
    process = OrnsteinUhlenbeckNoiseGen([1, 2], **parameters)
    return [process() for _ in range(n)]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_noise_without_parameters_is_of_the_default_process():
    assert same(steps((), (), ()), expected_steps(3))


def test_parameters_count_when_the_process_begins():
    parameters = {"mu": 1.0, "sigma": 0.3}
    got = steps((parameters,), (parameters,), (), ({"mu": 9.0},))
    assert same(got, expected_steps(4, **parameters))


def test_reset_begins_anew_with_other_parameters_or_the_same():
    mean = {"mu": 100.0, "sigma": 0.0, "theta": 1.0, "dt": 0.5}
    got = steps((mean,), (mean,), (None, 1.0, True), ({**mean, "mu": 200.0}, 1.0, True), ())
    assert [noise[0, 0].item() for noise in got] == [50, 75, 50, 100, 150]


def test_actions_of_another_shape_have_a_process_of_their_own():
    mean = {"mu": 100.0, "sigma": 0.0, "theta": 1.0, "dt": 0.5}
    first, second = torch.zeros(1, 2), torch.zeros(3, 2)
    for expected in (50, 75):
        assert (add_ou_noise_to_action(first, mean) == expected).all()
        assert (add_ou_noise_to_action(second, mean) == expected).all()


def test_a_process_of_ones_own_is_shared_with_nobody(device):
    mine, yours = (OrnsteinUhlenbeckNoiseGen([2], 8.0, 0.0, 1.0, 0.5) for _ in range(2))
    action = torch.zeros(2, device=device)
    assert add_ou_noise_to_action(action, process=mine).tolist() == [4, 4]
    assert add_ou_noise_to_action(action, process=mine, ratio=0.5).tolist() == [3, 3]
    assert add_ou_noise_to_action(action, process=yours).tolist() == [4, 4]
    assert add_ou_noise_to_action(action, process=mine, reset=True).tolist() == [4, 4]
    assert action_space_noise._processes == {}
    with pytest.raises(ValueError, match=r"process must have shape \[3\], got \[2\]"):
        add_ou_noise_to_action(torch.zeros(3), process=mine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_noise_of_a_process_is_like_the_action(dtype, device):
    action = torch.ones(3, 2, dtype=dtype, device=device)
    noisy = add_ou_noise_to_action(action, {"x0": torch.ones(3, 2)})
    assert noisy.dtype == dtype and noisy.device == action.device
    assert noisy.shape == action.shape and (action == 1).all()

"""Sources of noise: their distributions, shapes, devices and what they print."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from machin_fast.noise.generator import (
    ClippedNormalNoiseGen,
    NoiseGen,
    NormalNoiseGen,
    OrnsteinUhlenbeckNoiseGen,
    UniformNoiseGen,
)

ALL = [NormalNoiseGen, ClippedNormalNoiseGen, UniformNoiseGen, OrnsteinUhlenbeckNoiseGen]
N = 200_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("shape", [[2, 3], (4,), torch.Size([1, 2]), 5, []])
def test_noise_has_the_shape_and_is_where_it_is_asked_for(kind, shape, device):
    noise = kind(shape)
    expected = torch.Size([shape] if isinstance(shape, int) else shape)
    assert noise.shape == expected
    assert noise().shape == noise(device).shape == noise(str(device)).shape == expected
    assert noise(device).device.type == device.type
    assert noise().device.type == "cpu" and noise().dtype == torch.float32


@pytest.mark.parametrize("kind", ALL)
def test_a_generator_gives_the_same_noise_again_and_on_every_device(kind, device):
    first, second = kind([3, 2], generator=seeded(7)), kind([3, 2], generator=seeded(7))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for _ in range(3):
        assert torch.equal(first(), second(device).cpu())
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first(), first())


@pytest.mark.parametrize("kind", ALL)
def test_without_one_torchs_own_is_taken(kind):
    noise = kind([3])
    torch.manual_seed(3)
    first = noise()
    noise.reset()
    torch.manual_seed(3)
    assert torch.equal(noise(), first)


def test_normal_noise_is_normal():
    x = NormalNoiseGen(N, 2.0, 3.0, generator=seeded())()
    assert x.mean().item() == pytest.approx(2, abs=0.03)
    assert x.std().item() == pytest.approx(3, abs=0.03)
    for deviations, share in ((1, 0.6827), (2, 0.9545)):
        assert ((x - 2).abs() < deviations * 3).float().mean().item() == pytest.approx(
            share, abs=0.005
        )


def test_clipped_normal_noise_is_normal_within_its_bounds():
    x = ClippedNormalNoiseGen(N, 0.5, 1.0, -1.0, 1.0, generator=seeded())()
    assert x.min() == -1 and x.max() == 1
    # Normal probabilities below -1.5 and above 0.5 deviations.
    assert (x == -1).float().mean().item() == pytest.approx(0.0668, abs=0.003)
    assert (x == 1).float().mean().item() == pytest.approx(0.3085, abs=0.005)
    assert (x < 0.5).float().mean().item() == pytest.approx(0.5, abs=0.006)


def test_uniform_noise_is_uniform():
    x = UniformNoiseGen(N, -1.0, 3.0, generator=seeded())()
    assert x.min() >= -1 and x.max() < 3
    share = torch.histc(x, bins=8, min=-1, max=3) / N
    torch.testing.assert_close(share, torch.full((8,), 1 / 8), atol=0.004, rtol=0)


def test_ornstein_uhlenbeck_noise_follows_its_equation():
    noise = OrnsteinUhlenbeckNoiseGen(
        [2], mu=1.0, sigma=0.5, theta=0.3, dt=0.04, x0=torch.tensor([2.0, -3.0]),
        generator=seeded(5),
    )  # fmt: skip
    generator, x = seeded(5), torch.tensor([2.0, -3.0])
    for _ in range(10):
        normal = torch.randn(2, generator=generator)
        x = x + 0.3 * (1.0 - x) * 0.04 + 0.5 * 0.2 * normal
        torch.testing.assert_close(noise(), x)


def test_ornstein_uhlenbeck_noise_is_correlated_and_spreads_as_it_says():
    theta, dt, sigma = 2.0, 0.1, 0.6
    noise = OrnsteinUhlenbeckNoiseGen(
        20_000, mu=0.7, sigma=sigma, theta=theta, dt=dt, generator=seeded()
    )
    for _ in range(60):
        before, after = noise(), noise()
    variance = sigma**2 / (theta * (2 - theta * dt))
    assert after.mean().item() == pytest.approx(0.7, abs=0.015)
    assert after.var().item() == pytest.approx(variance, rel=0.05)
    correlation = torch.corrcoef(torch.stack([before, after]))[0, 1].item()
    assert correlation == pytest.approx(1 - theta * dt, abs=0.02)


def test_reset_begins_anew():
    start = torch.tensor([5.0, 6.0])
    for x0 in (None, start):
        noise = OrnsteinUhlenbeckNoiseGen([2], sigma=0.0, theta=0.5, dt=1.0, mu=1.0, x0=x0)
        first = noise()
        noise()
        noise.reset()
        assert torch.equal(noise(), first)
    assert start.tolist() == [5, 6]


def test_what_is_returned_may_be_written_into():
    noise = OrnsteinUhlenbeckNoiseGen([2], sigma=0.0, x0=torch.ones(2), theta=0.0)
    noise().zero_()
    assert noise().tolist() == [1, 1]


def test_mean_and_deviation_of_a_process_may_be_tensors():
    mean = torch.tensor([1.0, -1.0])
    noise = OrnsteinUhlenbeckNoiseGen([3, 2], mu=mean, sigma=torch.zeros(2), theta=1.0, dt=1.0)
    assert torch.equal(noise(), mean.expand(3, 2))


@pytest.mark.parametrize("kind", ALL)
def test_noise_can_be_copied(kind):
    noise = kind([3], generator=seeded())
    noise()
    twin = copy.deepcopy(noise)
    assert torch.equal(twin(), noise())


def test_noise_prints_itself():
    assert repr(NormalNoiseGen([1])) == "NormalNoise(mu=0.0, sigma=1.0)"
    assert repr(UniformNoiseGen([1], 1, 2)) == "UniformNoise(min=1, max=2)"
    assert repr(OrnsteinUhlenbeckNoiseGen([1])) == "OrnsteinUhlenbeckNoise(mu=0.0, sigma=1.0)"
    assert (
        repr(ClippedNormalNoiseGen([1]))
        == "ClippedNormalNoise(mu=0.0, sigma=1.0, min=-1.0, max=1.0)"
    )


def test_a_source_of_ones_own_needs_a_call_and_a_text():
    class Ones(NoiseGen):
        def __call__(self, device=None):
            return torch.ones(2, device=device)

        def __repr__(self):
            return "Ones()"

    noise = Ones()
    noise.reset()
    assert noise().tolist() == [1, 1]
    with pytest.raises(TypeError, match="abstract"):
        NoiseGen()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormalNoiseGen([1], 0, -1), "NormalNoiseGen: sigma must be at least 0, got -1"),
        (lambda: NormalNoiseGen([1], 0, math.nan), "sigma must be at least 0, got nan"),
        (
            lambda: ClippedNormalNoiseGen([1], 0, 1, 2, 1),
            "ClippedNormalNoiseGen: nmin, nmax must be in order, got 2 and 1",
        ),
        (lambda: UniformNoiseGen([1], 2, 1), "umin, umax must be in order, got 2 and 1"),
        (lambda: OrnsteinUhlenbeckNoiseGen([1], dt=-1), "dt must be at least 0, got -1"),
        (
            lambda: OrnsteinUhlenbeckNoiseGen([2, 3], x0=torch.zeros(3)),
            r"OrnsteinUhlenbeckNoiseGen: x0 must have shape \[2, 3\], got \[3\]",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

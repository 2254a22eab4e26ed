from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from machin_fast.ops import categorical_projection

OPS = torch.ops.machin_fast
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def case(
    batch: int, atoms: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards reach beyond both ends of [-3, 5]; every third row is terminated."""
    random = torch.Generator().manual_seed(batch * 1009 + atoms)
    probability = torch.rand(batch, atoms, generator=random, dtype=dtype).softmax(1)
    reward = 20 * torch.rand(batch, generator=random, dtype=dtype) - 10
    discount = torch.rand(batch, generator=random, dtype=dtype)
    discount[2::3] = 0
    return probability.to(device), reward.to(device), discount.to(device)


def algorithm_one(
    probability: Tensor, reward: Tensor, discount: Tensor, v_min: float, v_max: float
) -> Tensor:
    """Bellemare et al. 2017, arXiv:1707.06887, algorithm 1, with the mass of an atom that is hit
    exactly (l = u), which the paper drops."""
    batch, atoms = probability.shape
    result = torch.zeros(batch, atoms, dtype=torch.float64)
    spacing = (v_max - v_min) / (atoms - 1)
    for row in range(batch):
        r, gamma, p = reward[row].item(), discount[row].item(), probability[row].tolist()
        for j in range(atoms):
            moved = min(max(r + gamma * (v_min + j * spacing), v_min), v_max)
            b = min((moved - v_min) / spacing, atoms - 1.0)
            lower, upper = math.floor(b), math.ceil(b)
            result[row, lower] += p[j] if lower == upper else p[j] * (upper - b)
            result[row, upper] += p[j] * (b - lower)
    return result


def complaint(text: str) -> AbstractContextManager[object]:
    return pytest.raises(RuntimeError, match="^" + re.escape(f"categorical_projection: {text}"))


# -- results


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("batch", [0, 1, 7, 64, 65, 1000])
@pytest.mark.parametrize("atoms", [2, 51, 65])
def test_matches_algorithm_one(
    batch: int, atoms: int, dtype: torch.dtype, device: torch.device
) -> None:
    data = case(batch, atoms, dtype, device)
    want = algorithm_one(*data, -3, 5).to(dtype)
    got = categorical_projection(*data, v_min=-3, v_max=5)
    assert (got.dtype, got.device.type) == (dtype, device.type)
    assert_close(got.cpu(), want, atol=TOLERANCE[dtype], rtol=0)
    out = torch.full_like(got, 77)
    assert categorical_projection(*data, v_min=-3, v_max=5, out=out) is out
    assert torch.equal(out, got)


def test_three_atoms_by_hand(device: torch.device) -> None:
    # Atoms at 0, 1, 2 move to 0.5, 1, 1.5; then to 1.5, 2, 2.5, of which the last is clipped.
    probability = torch.tensor([[0.5, 0.25, 0.25]] * 2, device=device)
    reward, discount = torch.tensor([[0.5, 1.5], [0.5, 0.5]], device=device)
    got = categorical_projection(probability, reward, discount, v_min=0, v_max=2)
    want = torch.tensor([[0.25, 0.625, 0.125], [0, 0.25, 0.75]], device=device)
    assert torch.equal(got, want)


def test_nothing_moves_without_reward_or_discount(device: torch.device) -> None:
    probability, reward, _ = case(9, 51, torch.float32, device)
    same = categorical_projection(
        probability, torch.zeros_like(reward), torch.ones_like(reward), v_min=-10, v_max=10
    )
    assert torch.equal(same, probability)


def test_mass_is_conserved_where_atoms_are_hit_exactly_and_at_the_ends(
    device: torch.device,
) -> None:
    # Rewards of whole steps and of half ones, from far below the atoms to far above.
    reward = torch.arange(-300, 301, dtype=torch.float64, device=device) / 10
    probability = torch.rand(len(reward), 51, dtype=torch.float64).to(device)
    for discount in (0.0, 0.5, 1.0):
        got = categorical_projection(
            probability, reward, torch.full_like(reward, discount), v_min=-5, v_max=5
        )
        assert (got >= 0).all()
        assert_close(got.sum(1), probability.sum(1), atol=1e-13, rtol=0)


@given(
    st.floats(-1e6, 1e6, width=32),
    st.floats(0, 1, width=32),
    st.floats(-100, 100, width=32),
    st.floats(0.125, 100, width=32),
    st.integers(2, 70),
)
def test_mass_and_clipped_mean_are_kept_for_any_numbers(
    reward: float, discount: float, v_min: float, reach: float, atoms: int
) -> None:
    v_max = v_min + reach
    random = torch.Generator().manual_seed(atoms)
    probability = torch.rand(1, atoms, generator=random, dtype=torch.float64).softmax(1)
    z = torch.linspace(v_min, v_max, atoms, dtype=torch.float64)
    got = categorical_projection(
        probability,
        torch.tensor([reward], dtype=torch.float64),
        torch.tensor([discount], dtype=torch.float64),
        v_min=v_min,
        v_max=v_max,
    )
    assert_close(got.sum(), torch.tensor(1.0, dtype=torch.float64), atol=1e-12, rtol=0)
    moved = (reward + discount * z).clamp(v_min, v_max)
    assert_close(got @ z, probability @ moved, atol=1e-9 * (abs(reward) + 100), rtol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_number_that_is_not_finite_stays_in_its_row(
    bad: float, dtype: torch.dtype, device: torch.device
) -> None:
    clean = categorical_projection(*case(9, 51, dtype, device), v_min=-3, v_max=5)
    probability, reward, discount = case(9, 51, dtype, device)
    reward[1], discount[4], probability[7, 20] = bad, bad, math.nan
    got = categorical_projection(probability, reward, discount, v_min=-3, v_max=5)
    assert got[[1, 4]].isnan().all()
    assert 1 <= got[7].isnan().sum() <= 2
    healthy = [0, 2, 3, 5, 6, 8]
    assert torch.equal(got[healthy], clean[healthy])


def test_inputs_may_have_gaps(device: torch.device) -> None:
    probability, reward, discount = case(30, 102, torch.float64, device)
    data = (probability[::2, ::2], reward[::2], discount[:1].expand(15))
    want = categorical_projection(*(x.contiguous() for x in data), v_min=-3, v_max=5)
    assert torch.equal(categorical_projection(*data, v_min=-3, v_max=5), want)
    turned = probability.t().contiguous().t()
    got = categorical_projection(turned, reward, discount, v_min=-3, v_max=5)
    assert torch.equal(
        got, categorical_projection(probability, reward, discount, v_min=-3, v_max=5)
    )
    assert got.is_contiguous()


# -- refusals


def test_a_wrong_argument_is_named(device: torch.device) -> None:
    p, r, d = case(4, 3, torch.float32, device)

    def refused(text: str, *data: Tensor, v_min: float = 0, v_max: float = 1) -> None:
        with complaint(text):
            categorical_projection(*data, v_min=v_min, v_max=v_max)

    refused("next_probability must be float32 or float64, got int64", p.long(), r, d)
    refused("next_probability must be [batch, atoms], got shape [4]", p[:, 0], r, d)
    refused("next_probability must have 2 to 16777216 atoms, got 1", p[:, :1], r, d)
    refused("reward must have shape [4], got [3]", p, r[:3], d)
    refused("reward must have shape [4], got [4, 1]", p, r[:, None], d)
    refused("reward must be float32, got float64", p, r.double(), d)
    refused("discount must have shape [4], got []", p, r, d[0])
    refused("discount must be float32, got bool", p, r, d.bool())
    refused("v_max must be above v_min = 1 and finite, got 1", p, r, d, v_min=1)
    refused("v_max must be above v_min = 0 and finite, got -1", p, r, d, v_max=-1)
    refused("v_max must be above v_min = 0 and finite, got nan", p, r, d, v_max=math.nan)
    refused("v_max must be above v_min = 0 and finite, got inf", p, r, d, v_max=math.inf)
    refused("v_min must be finite, got nan", p, r, d, v_min=math.nan)
    refused("v_min must be finite, got -inf", p, r, d, v_min=-math.inf)
    # One number in float32.
    refused("v_max must be above v_min = 1e+08 and finite, got 1e+08", p, r, d,
            v_min=1e8, v_max=1e8 + 1)  # fmt: skip
    categorical_projection(p.double(), r.double(), d.double(), v_min=1e8, v_max=1e8 + 1)


def test_a_wrong_out_is_named_and_left_alone(device: torch.device) -> None:
    p, r, d = case(4, 4, torch.float32, device)

    def refused(text: str, out: Tensor, v_max: float = 1) -> None:
        before = out.clone()
        with complaint(text):
            categorical_projection(p, r, d, v_min=0, v_max=v_max, out=out)
        assert torch.equal(out, before)

    refused("out must have shape [4, 4], got [4, 3]", torch.ones(4, 3, device=device))
    refused("out must be float32, got float64", torch.ones(4, 4, device=device).double())
    refused("out must be contiguous, got strides [1, 4]", torch.ones(4, 4, device=device).t())
    refused("out must not share memory with next_probability", p)
    both = torch.rand(20).to(device)
    r = both[14:18]
    refused("out must not share memory with reward", both[:16].view(4, 4))
    refused("v_max must be above", torch.ones(4, 4, device=device), v_max=0)


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_tensors_of_two_devices_are_refused(device: torch.device) -> None:
    p, r, d = case(4, 3, torch.float32, device)
    with complaint("discount must be on cuda:0, got cpu"):
        categorical_projection(p, r, d.cpu(), v_min=0, v_max=1)


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_cuda_gives_the_same_bits_each_time(device: torch.device) -> None:
    data = case(4096, 51, torch.float32, device)
    first = categorical_projection(*data, v_min=-3, v_max=5)
    for _ in range(5):
        assert torch.equal(categorical_projection(*data, v_min=-3, v_max=5), first)


# -- torch


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_registration_is_sound(dtype: torch.dtype, device: torch.device) -> None:
    data = case(5, 7, dtype, device)
    torch.library.opcheck(OPS.categorical_projection.default, (*data, -3, 5))
    out = torch.empty_like(data[0])
    torch.library.opcheck(OPS.categorical_projection.out, (*data, -3, 5), {"out": out})


@pytest.mark.compile
def test_compiles_into_one_graph(device: torch.device) -> None:
    @torch.compile(fullgraph=True)
    def compiled(p: Tensor, r: Tensor, d: Tensor, out: Tensor) -> Tensor:
        fresh = categorical_projection(p.softmax(1), 2 * r, d, v_min=-3, v_max=5)
        categorical_projection(p.softmax(1), 2 * r, d, v_min=-3, v_max=5, out=out)
        return fresh + out

    torch.compiler.reset()
    for batch in (4, 9):
        p, r, d = case(batch, 51, torch.float32, device)
        want = categorical_projection(p.softmax(1), 2 * r, d, v_min=-3, v_max=5)
        out = torch.empty_like(p)
        assert_close(compiled(p, r, d, out), 2 * want)
        assert_close(out, want)


def test_carries_no_gradient(device: torch.device) -> None:
    p, r, d = case(4, 3, torch.float32, device)
    got = categorical_projection(p.requires_grad_(), r, d, v_min=-3, v_max=5)
    assert not got.requires_grad

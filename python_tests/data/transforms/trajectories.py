"""Trajectories to transform, and machina's own numbers for one.

machina's numbers were computed by machina itself (git f93bb6f, float32). It takes every end of an
episode for a termination.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.testing import assert_close

from machin_fast.data.trajectory import Trajectory

# Each segment of length 1, of a power of two and its neighbours, and none at all.
LENGTHS = [[], [1], [1, 1, 1], [7], [64, 1, 65], [3, 1, 4, 1, 5, 9, 2, 6], [63, 200, 2]]


def trajectory(
    lengths: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    final: bool = True,
) -> Trajectory:
    """Normal numbers. Segments end terminated, truncated, and cut by the collector, in turn."""
    n, segments = sum(lengths), len(lengths)
    random = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(device, dtype)

    bounds = torch.tensor([0, *lengths]).cumsum(0)
    ends = [torch.zeros(n, dtype=torch.bool) for _ in range(2)]
    for kind, flag in enumerate(ends):
        flag[bounds[1:][kind::3] - 1] = True
    terminated, truncated = (flag.to(device) for flag in ends)
    return Trajectory(
        {
            "state": numbers(n, 3),
            "action": numbers(n, 2),
            "reward": numbers(n),
            "terminated": terminated,
            "truncated": truncated,
        },
        bounds,
        final={"state": numbers(segments, 3)} if final else None,
    )


def segments(trajectory: Trajectory) -> list[range]:
    """The rows of each segment."""
    bounds = trajectory.bounds.tolist()
    return [range(*pair) for pair in itertools.pairwise(bounds)]


@contextmanager
def left_alone(trajectory: Trajectory) -> Iterator[Trajectory]:
    """The trajectory, which must be as before in the end: the same tensors, bit for bit."""

    def tensors() -> dict[str, Tensor]:
        return {
            "bounds": trajectory.bounds,
            **{f"column {name}": x for name, x in trajectory.columns.items()},
            **{f"final {name}": x for name, x in trajectory.final.items()},
        }

    before = tensors()
    copies = {name: x.clone() for name, x in before.items()}
    yield trajectory
    after = tensors()
    assert list(after) == list(before)
    for name, x in after.items():
        assert x is before[name], name
        assert_close(x, copies[name], rtol=0, atol=0, equal_nan=True)


GAMMA, LAM = 0.99, 0.95
MACHINA = {
    "value": [-0.001, -0.662, -1.204, 1.462, 1.766, 0.677, -0.012, -0.076, -0.674, -0.056, 2.26],
    "reward": [
        0.002, 1.072, -1.651, 0.535, -2.0639999, -0.591, -0.3, 1.2970001, 1.53, 0.669, 0.549,
    ],
    "return": [
        0.002, -2.0408335, -3.1442764, -1.5083599, -2.0639999,
        3.0324795, 3.6600802, 4.0000811, 2.7303848, 1.2125101, 0.549,
    ],
    "advantage": [
        0.003, -0.9768099, -1.6149387, -2.7807748, -3.8299999,
        1.8489197, 3.3267407, 3.9234245, 3.4212489, 1.3532046, -1.711,
    ],
    "centred": [
        -0.1044709, -0.4887616, -0.7390417, -1.1962937, -1.6078097,
        0.6195163, 1.1991316, 1.4331566, 1.2361987, 0.4250922, -0.7767179,
    ],
    "first_of_state": [
        1.691, -0.172, -0.243, 0.124, 1.651, -0.309, -0.095, -1.906, -0.383, -1.05, 1.498,
    ],
    "h_mask": [1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0],
}  # fmt: skip


def machina(device: torch.device | str = "cpu", *names: str) -> Trajectory:
    """Three episodes of 1, 4 and 6 steps, with some of machina's columns."""
    terminated = torch.zeros(11, dtype=torch.bool)
    terminated[[0, 4, 10]] = True
    columns = {name: torch.tensor(MACHINA[name], device=device) for name in names}
    return Trajectory({**columns, "terminated": terminated.to(device)})


def expected(name: str, device: torch.device | str = "cpu") -> Tensor:
    """One of machina's columns."""
    return torch.tensor(MACHINA[name], device=device)

"""Projection of a shifted value distribution onto its atoms, as C51 needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness import Calls, Kind, Plan, Row
from benchmarks.peers import njit
from benchmarks.returns import one, proven
from machin_fast import ops

ATOMS = 51
V_MIN, V_MAX = -10.0, 10.0
STEP = (V_MAX - V_MIN) / (ATOMS - 1)


def rows(plan: Plan) -> Iterator[Row]:
    for batch in (1, 256) if plan.quick else (1, 32, 256, 4096):
        random = np.random.default_rng(0)
        arrays = [
            random.dirichlet(np.ones(ATOMS), size=batch).astype(np.float32),
            (3 * random.standard_normal(batch)).astype(np.float32),
            (0.99 * (random.random(batch) > 0.05)).astype(np.float32),
        ]
        inputs = [torch.from_numpy(x).to(plan.device) for x in arrays]
        expected = [_reference(*(x.astype(np.float64) for x in arrays))]
        row = Row(f"{ATOMS} atoms", f"batch {batch}", plan, items=batch)
        ours = partial(ops.categorical_projection, *inputs, v_min=V_MIN, v_max=V_MAX)
        candidates: dict[str, tuple[Kind, Callable[[], object]]] = {
            "ours": (Kind.OURS, ours),
            "ours out=": (Kind.OURS, partial(ours, out=ours())),
            "torch-index-add": (Kind.PLAIN, partial(_index_add, *inputs)),
            "torch-broadcast": (Kind.PLAIN, partial(_broadcast, *inputs)),
        }
        for name, (kind, run) in candidates.items():
            row.add(name, partial(proven, run, expected, one), kind)
        if plan.device == "cpu":
            row.add("numba-user out=", partial(_numba, arrays, expected), Kind.PLAIN)
        yield row


def _reference(
    probability: NDArray[np.float64], reward: NDArray[np.float64], discount: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bellemare et al. 2017, arXiv:1707.06887, algorithm 1."""
    result = np.zeros_like(probability)
    for i in range(len(reward)):
        for j in range(ATOMS):
            moved = np.clip(reward[i] + discount[i] * (V_MIN + j * STEP), V_MIN, V_MAX)
            place = (moved - V_MIN) / STEP
            low = min(int(place), ATOMS - 2)
            result[i, low] += probability[i, j] * (low + 1 - place)
            result[i, low + 1] += probability[i, j] * (place - low)
    return result


def _index_add(probability: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
    """The usual code: shares of each atom are added to its two neighbours."""
    atoms = torch.linspace(V_MIN, V_MAX, ATOMS, device=reward.device)
    moved = (reward[:, None] + discount[:, None] * atoms).clamp(V_MIN, V_MAX)
    place = (moved - V_MIN) / STEP
    low = place.floor().clamp(max=ATOMS - 2)
    high_share = place - low
    first = torch.arange(len(reward), device=reward.device)[:, None] * ATOMS
    index = (first + low.to(torch.int64)).reshape(-1)
    result = torch.zeros_like(probability)
    flat = result.view(-1)
    flat.index_add_(0, index, (probability * (1 - high_share)).view(-1))
    flat.index_add_(0, index + 1, (probability * high_share).view(-1))
    return result


def _broadcast(probability: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
    """The short code: every atom asks how near each moved atom is."""
    atoms = torch.linspace(V_MIN, V_MAX, ATOMS, device=reward.device)
    moved = (reward[:, None] + discount[:, None] * atoms).clamp(V_MIN, V_MAX)
    near = (1 - (moved[:, None, :] - atoms[None, :, None]).abs() / STEP).clamp(min=0)
    return (near @ probability[:, :, None])[:, :, 0]


def _numba(arrays: list[NDArray[Any]], expected: list[Any]) -> Calls:
    out = np.empty_like(arrays[0])
    return proven(partial(njit(_fused), *arrays, out), expected, lambda _: [out])


def _fused(probability: Any, reward: Any, discount: Any, out: Any) -> None:
    low_end, high_end = np.float32(V_MIN), np.float32(V_MAX)
    per_step = np.float32(1 / STEP)
    for i in range(probability.shape[0]):
        for j in range(ATOMS):
            out[i, j] = 0
        for j in range(ATOMS):
            moved = reward[i] + discount[i] * (low_end + np.float32(j) * np.float32(STEP))
            place = (min(max(moved, low_end), high_end) - low_end) * per_step
            low = min(int(place), ATOMS - 2)
            high_share = place - np.float32(low)
            out[i, low] += probability[i, j] * (np.float32(1) - high_share)
            out[i, low + 1] += probability[i, j] * high_share

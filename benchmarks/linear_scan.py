"""x_t = term_t + factor_t * x_{t+1}, as users of torch and of jax write it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import load


def torch_loop(factor: Tensor, term: Tensor) -> Tensor:
    """A Python loop over the steps: 4-18 us each, however many envs there are."""
    result = torch.empty_like(term)
    x = torch.zeros_like(term[0])
    for t in range(len(term) - 1, -1, -1):
        result[t] = x = term[t] + factor[t] * x
    return result


def jax_scan(factor: Any, term: Any) -> Any:
    """``lax.scan`` in reverse; to be called under ``jax.jit``."""
    jax = load("jax")

    def step(x: Any, terms: Any) -> Any:
        factor_t, term_t = terms
        x = term_t + factor_t * x
        return x, x

    start = jax.numpy.zeros_like(term[0])
    return jax.lax.scan(step, start, (factor, term), reverse=True)[1]

"""The projection of C51."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import like, no_gradient, register_fake, writes_in_place


def categorical_projection(
    next_probability: Tensor,
    reward: Tensor,
    discount: Tensor,
    *,
    v_min: float,
    v_max: float,
    out: Tensor | None = None,
) -> Tensor:
    """The distribution of ``reward + discount * Z``, projected back onto the atoms of ``Z``.

    Each atom moves to its new return, clipped to [v_min, v_max], and shares its probability
    between the two atoms next to that, by nearness. The mass of a row stays what it was.

    Source: Bellemare et al. 2017, arXiv:1707.06887, algorithm 1.

    Args:
        next_probability: ``[batch, atoms]``, float32 or float64, of the next state's atoms, at
            least 2. Atom j stands for the return v_min + j * (v_max - v_min) / (atoms - 1).
        reward: ``[batch]``, of the same dtype; of n steps, their discounted sum.
        discount: Likewise, gamma^n, or 0 where the episode terminated.
        v_min, v_max: Returns of the first and the last atom, v_min < v_max.
        out: A contiguous tensor like ``next_probability`` to write the result into. It must not
            share memory with anything else here.

    Returns:
        ``[batch, atoms]``, dtype and device of ``next_probability``. Carries no gradient. A row
        whose reward or discount is not finite is all NaN; other rows are not touched by it.

    Raises:
        RuntimeError: A shape, dtype or device differs from what is listed above, or ``v_max`` is
            not above ``v_min`` in the dtype.
    """
    if out is None:
        return torch.ops.machin_fast.categorical_projection.default(
            next_probability, reward, discount, v_min, v_max
        )
    torch.ops.machin_fast.categorical_projection.out(
        next_probability, reward, discount, v_min, v_max, out=out
    )
    return out


register_fake("categorical_projection", lambda next_probability, *_: like(next_probability))
writes_in_place("categorical_projection.out")
no_gradient("categorical_projection", "categorical_projection.out")

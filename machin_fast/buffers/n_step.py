"""Transitions of several steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from machin_fast import ops
from machin_fast.buffers.episodes import Places
from machin_fast.buffers.rows import Layout, Rows
from machin_fast.data.columns import Column, take_rows
from machin_fast.transition import Transition

DISCOUNT = "discount"
"""Custom attribute of a transition of several steps: what to multiply the next value with."""


def n_step_rows(
    op: str, rows: Rows, lengths: Sequence[int] | Places, n: int, discount: float
) -> Rows:
    """Transitions over n steps, or to the end of the episode.

    ``reward`` becomes the discounted sum of the rewards, ``next_state`` and ``terminal`` those of
    the last step. ``discount``, a new custom attribute, is what belongs before the value of
    ``next_state``: the discount to the power of the number of steps, and 0 behind a terminal one.

    Source: Sutton and Barto 2018, Reinforcement Learning, equation 7.1.

    Args:
        op: Who asks, for errors.
        rows: Columns of the default class of transitions, episode by episode.
        lengths: Of the episodes.
        n: Steps.
        discount: Per step, in [0, 1].

    Returns:
        As many rows.

    Raises:
        ValueError: Transitions differ in their attributes, are of another class, have a
            ``discount`` already, or a reward is not one number.
    """
    layout = rows.layout
    if layout is None or layout.kind is not Transition:
        raise ValueError(
            f"{op}: transitions must be of class Transition and have the same attributes with "
            "n_step, got others"
        )
    major, sub, custom = layout.names
    if DISCOUNT in custom:
        raise ValueError(f"{op}: transitions must have no {DISCOUNT} with n_step, got one")
    reward, terminal = rows.columns["reward"], rows.columns["terminal"]
    if not isinstance(reward, Tensor) or not isinstance(terminal, Tensor):
        raise ValueError(f"{op}: reward and terminal must be numbers with n_step, got a list")
    if reward[:1].numel() > 1 or terminal[:1].numel() > 1:
        raise ValueError(
            f"{op}: reward must be one number a transition with n_step, got {list(reward.shape)}"
        )
    number = reward.flatten().double()
    ended = terminal.flatten().bool()
    bounds = torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int64))
    total, factor, last = ops.nstep_return(
        number, ended, torch.zeros_like(ended), gamma=discount, n=n, bounds=bounds
    )
    after = {
        name: column
        for name, column in rows.columns.items()
        if name == "terminal" or layout.fields[name][0] == "next_state"
    }
    new: dict[str, Column] = {**rows.columns, **take_rows(after, last), DISCOUNT: factor}
    kinds = {**rows.kinds, DISCOUNT: float}
    if rows.kinds["reward"] is Tensor:
        dtype = reward.dtype if reward.is_floating_point() else torch.float32
        new["reward"] = total.to(dtype).view(reward.shape)
    else:
        new["reward"], kinds["reward"] = total, float
    wider = Layout(layout.kind, (major, sub, (*custom, DISCOUNT)), layout.keys)
    return Rows(wider, kinds, new)

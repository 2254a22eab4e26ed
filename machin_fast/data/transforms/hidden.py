"""States of recurrent networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from machin_fast.data.columns import take_rows
from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import tensor
from machin_fast.data.transforms._networks import call, inputs
from machin_fast.data.transforms.chain import Transform

_State: TypeAlias = "Tensor | tuple[Tensor, ...]"


def resets(name: str = "reset") -> Transform:
    """Adds a flag that is True on the first row of each segment, where hidden states start anew.

    Source: none, these are the segments' bounds.

    Args:
        name: Of the new column.

    Returns:
        The transform. The column is ``[N]``, bool.

    Raises:
        TypeError: Never.
    """

    def transform(trajectory: Trajectory) -> Trajectory:
        reset = torch.zeros(len(trajectory), dtype=torch.bool, device=trajectory.device)
        reset[trajectory.bounds[:-1].to(reset.device)] = True
        return trajectory.with_columns(**{name: reset})

    return transform


def hidden(
    net: Callable[..., Any],
    name: str = "hidden",
    *,
    observation: str = "state",
    action: str | None = None,
) -> Transform:
    """Adds a recurrent network's state before each step, so that any window can be replayed.

    All segments are stepped side by side, without gradient: as many calls as the longest segment
    has steps. Each segment starts from None, which a network must take for zeros: zeros are what
    is stored of the state before the first step.

    Source: Kapturowski et al. 2019, Recurrent Experience Replay in Distributed Reinforcement
    Learning (R2D2), section 3 (stored state).

    Args:
        net: Called with the observation (and the action) ``[batch, ...]`` and ``hidden=``: the
            column positionally, or the columns nested in it as keyword arguments, those that its
            ``forward`` takes. Returns a tuple whose last item is the new state, ``[batch, ...]``
            or a tuple of such, as of an LSTM.
        name: Of the new column; several tensors of state become ``name/0``, ``name/1``, ...
        observation: Name of the network's input.
        action: Name of its second input, for a critic of actions. None: it has none.

    Returns:
        The transform. Columns are ``[N, ...]``, dtype of the network.

    Raises:
        ValueError: By the transform: a column is missing, or the state is not ``[batch, ...]``.
        TypeError: By the transform: the network returns no tuple, or no state.
    """
    op = "transforms.hidden"
    asked = (observation,) if action is None else (observation, action)

    @torch.no_grad()
    def transform(trajectory: Trajectory) -> Trajectory:
        takes = inputs(op, net, trajectory, *asked)
        order, running = _side_by_side(trajectory)
        found = take_rows({each: trajectory[each] for each in takes}, order)
        rows = {each: tensor(x) for each, x in found.items()}
        state: _State | None = None
        before: list[tuple[Tensor, ...]] = []
        begin = 0
        for n in running:
            step = {each: x[begin : begin + n] for each, x in rows.items()}
            begin += n
            state = None if state is None else _first(state, n)
            result = call(net, takes, step, hidden=state)
            new = _new_state(op, result, n)
            old = tuple(map(torch.zeros_like, _parts(new))) if state is None else _parts(state)
            before.append(old)
            state = new
        columns = []
        for parts in zip(*before, strict=True):
            packed = torch.cat(parts)
            columns.append(torch.empty_like(packed).index_copy_(0, order.to(packed.device), packed))
        if isinstance(state, Tensor):
            return trajectory.with_columns(**{name: columns[0]})
        named = {f"{name}/{i}": each for i, each in enumerate(columns)}
        return trajectory.with_columns(**named)

    return transform


def _side_by_side(trajectory: Trajectory) -> tuple[Tensor, list[int]]:
    """Rows in order of time, in each step the longest segments first; and how many rows a step
    has. So the states of segments that go on are always the first ones."""
    lengths, segments = trajectory.lengths.sort(descending=True, stable=True)
    rank = torch.empty_like(segments).index_copy_(0, segments, torch.arange(len(segments)))
    key = trajectory.position * len(segments) + rank[trajectory.segment_of_row]
    running = len(segments) - lengths.bincount().cumsum(0)
    # Of no segments at all one empty step is made, so that the columns have their shapes.
    return key.argsort(), running[:-1].tolist() or [0]


def _new_state(op: str, result: Any, n: int) -> _State:
    """The last item of what the network returned, checked."""
    if not isinstance(result, tuple) or not result:
        raise TypeError(
            f"{op}: the network must return a tuple whose last item is the new state, "
            f"got {type(result).__name__}"
        )
    state = result[-1]
    parts = state if isinstance(state, tuple) else (state,)
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(
                f"{op}: the new state must be a tensor or a tuple of such, "
                f"got {type(part).__name__}"
            )
        if part.shape[:1] != (n,):
            raise ValueError(
                f"{op}: the new state must be [{n}, ...], one row a segment, got {list(part.shape)}"
            )
    return state


def _parts(state: _State) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else state


def _first(state: _State, n: int) -> _State:
    return state[:n] if isinstance(state, Tensor) else tuple(part[:n] for part in state)

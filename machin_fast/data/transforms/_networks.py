"""How transforms call networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from machin_fast.data.trajectory import Trajectory
from machin_fast.data.transforms._columns import names_under
from machin_fast.model.call import inside, signature


def inputs(op: str, net: Callable[..., Any], trajectory: Trajectory, *asked: str) -> dict[str, str]:
    """Which columns go into which arguments of a network.

    Columns of their own are positional, in the order asked for. If one of those asked for is
    nested, all go by name: sub-keys by theirs, and what the network's ``forward`` does not take
    is left out.

    Args:
        op: Who asks, for errors.
        net: The network, or any callable.
        trajectory: Whose columns.
        asked: Such as state, action.

    Returns:
        For each column the argument's name, empty if positional.

    Raises:
        ValueError: A column is not there, two have one name, or the network takes none of them.
    """
    found = [names_under(op, trajectory, each) for each in asked]
    if all(set(keys.values()) == {""} for keys in found):
        return {name: "" for keys in found for name in keys}
    named = {name: key or name for keys in found for name, key in keys.items()}
    arguments, _ = signature(inside(net).forward if isinstance(net, nn.Module) else net)
    if arguments is not None:
        taken = {name: key for name, key in named.items() if key in arguments}
        if not taken:
            raise ValueError(
                f"{op}: the network must take one of {', '.join(named.values())}, "
                f"got arguments {', '.join(sorted(arguments)) or 'none'}"
            )
        named = taken
    if len(set(named.values())) < len(named):
        raise ValueError(f"{op}: names of inputs must differ, got {', '.join(named)}")
    return named


def call(
    net: Callable[..., Any], takes: Mapping[str, str], rows: Mapping[str, Tensor], **others: Any
) -> Any:
    """Calls a network with rows of the columns that it takes, as ``inputs`` says."""
    positional = [rows[name] for name, key in takes.items() if not key]
    named = {key: rows[name] for name, key in takes.items() if key}
    return net(*positional, **named, **others)


@torch.no_grad()
def evaluate(
    op: str,
    net: Callable[..., Any],
    takes: Mapping[str, str],
    parts: Sequence[Mapping[str, Tensor]],
    batch_size: int | None,
) -> Tensor:
    """One number for each row of all parts, from one forward or from batches.

    Args:
        op: Who asks, for errors.
        net: Returns ``[n, 1]`` or ``[n]``, or a tuple that begins with it.
        takes: Of ``inputs``.
        parts: Rows of each column that it takes.
        batch_size: Most rows a forward. None: all at once.

    Returns:
        ``[rows]``, in memory of its own.

    Raises:
        ValueError: The network returns something else.
    """
    if batch_size is None:
        batches = [{name: torch.cat([part[name] for part in parts]) for name in takes}]
    else:
        batches = [
            {name: part[name][start : start + batch_size] for name in takes}
            for part in parts
            for start in range(0, len(part[next(iter(takes))]), batch_size)
        ] or [dict(parts[0])]
    return torch.cat([_numbers(op, net, takes, batch) for batch in batches])


def _numbers(
    op: str, net: Callable[..., Any], takes: Mapping[str, str], rows: Mapping[str, Tensor]
) -> Tensor:
    n = len(next(iter(rows.values())))
    result = call(net, takes, rows)
    result = result[0] if isinstance(result, tuple) else result
    if not isinstance(result, Tensor) or list(result.shape) not in ([n], [n, 1]):
        got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"{op}: the network must return [{n}, 1] or [{n}], got {got}")
    return result.reshape(n)

"""How algorithms read batches, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from machin_fast.buffers import Buffer, PrioritizedBuffer
from machin_fast.data import Batch
from machin_fast.data.columns import Column

Named: TypeAlias = dict[str, Any]
"""Arguments of a network by name, tensors ``[batch, ...]`` or ``[T, B, ...]``."""

_KNOWN = ("state", "action", "next_state")


def named(batch: Batch, name: str) -> Named:
    """The columns of ``name`` as arguments of a network.

    Args:
        batch: The batch.
        name: "state", "action" or "next_state".

    Returns:
        Columns ``name/key`` by their keys; or a column ``name`` by itself, as what comes without
        ``next_``.

    Raises:
        ValueError: There are none.
    """
    base = name.removeprefix("next_")
    if name in batch:
        return {base: batch[name]}
    prefix = f"{name}/"
    begin = len(prefix)
    found = {each[begin:]: batch[each] for each in batch.names() if each.startswith(prefix)}
    if not found:
        raise ValueError(
            f"learn: batch must have {name} or {prefix}..., got {', '.join(batch.names())}"
        )
    return found


def number(batch: Batch, name: str) -> Tensor:
    """A column of one number a row, as ``[..., 1]``.

    Args:
        batch: The batch.
        name: Of the column, ``[batch]``, ``[batch, 1]``, ``[T, B]`` or ``[T, B, 1]``.

    Returns:
        ``[..., 1]``.

    Raises:
        ValueError: There is no such column, or it is not as listed above.
    """
    if name not in batch:
        raise ValueError(f"learn: batch must have {name}, got {', '.join(batch.names())}")
    column: Tensor = batch[name]
    leading = 1 if batch.mask is None else 2
    if column.dim() == leading:
        return column.unsqueeze(-1)
    if column.dim() != leading + 1 or column.shape[-1] != 1:
        raise ValueError(f"learn: {name} must be one number a row, got {list(column.shape)}")
    return column


def others(batch: Batch, known: Iterable[str]) -> dict[str, Any]:
    """Columns that no algorithm asks for, which hooks of users may; none is fetched for this."""
    names = {*_KNOWN, *known}
    return {name: x for name, x in batch.columns.items() if name.partition("/")[0] not in names}


# -- of Machin's buffers ------------------------------------------------------------------------


_ATTRIBUTES = ("state", "action", "reward", "next_state", "terminal")
_NUMBERS = ("discount",)  # custom attributes that algorithms read, if there are any


def sample(buffer: Buffer, batch_size: int, concatenate: bool) -> Batch | None:
    """Draws from a buffer.

    Args:
        buffer: The buffer.
        batch_size: How many transitions.
        concatenate: False: states and actions are lists.

    Returns:
        The batch, with ``terminated`` for ``terminal``; None if there is nothing to draw.
    """
    how: dict[str, Any] = {
        "device": None,
        "sample_attrs": [*_ATTRIBUTES, "*"],
        "additional_concat_custom_attrs": _NUMBERS,
    }
    if isinstance(buffer, PrioritizedBuffer):
        n, found, index, weight = buffer.sample_batch(batch_size, concatenate, **how)
        if not n or found is None or index is None or weight is None:
            return None

        def update_priority(_: Tensor, priority: Tensor) -> None:
            buffer.update_priority(priority, index)

        return Batch(
            _columns(found),
            torch.from_numpy(np.asarray(index)),
            torch.from_numpy(weight).float(),
            update_priority=update_priority,
        )
    n, found = buffer.sample_batch(batch_size, concatenate, **how)
    if not n or found is None:
        return None
    return Batch(_columns(found), torch.arange(n), None)


def _columns(found: Sequence[Any]) -> dict[str, Column]:
    columns: dict[str, Any] = {}
    for name, values in zip([*_ATTRIBUTES, "*"], found, strict=True):
        if name == "*":
            for custom, each in values.items():
                if custom != "terminated":  # as users may call what Machin calls terminal
                    columns[custom] = _joined(each) if custom in _NUMBERS else each
        elif isinstance(values, Mapping):
            columns.update({f"{name}/{key}": each for key, each in values.items()})
        else:
            columns["terminated" if name == "terminal" else name] = _joined(values)
    return columns


def _joined(values: Any) -> Any:
    """Numbers of transitions that were not joined, as ``[n, 1]``."""
    if isinstance(values, Tensor):
        return values
    return torch.stack([torch.as_tensor(each).reshape(1) for each in values])

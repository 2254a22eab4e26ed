"""Gathers rows of several columns at once."""

from __future__ import annotations

import torch
from torch import Tensor

from machin_fast.ops._registration import no_gradient, register_fake, writes_in_place


def gather_rows(
    columns: list[Tensor],
    index: Tensor,
    *,
    out: list[Tensor] | None = None,
    check: bool = True,
) -> list[Tensor]:
    if out is None:
        return torch.ops.machin_fast.gather_rows.default(columns, index, check)
    torch.ops.machin_fast.gather_rows.out(columns, index, check, out)
    return out


register_fake(
    "gather_rows",
    lambda columns, index, check: [c.new_empty((index.shape[0], *c.shape[1:])) for c in columns],
)
writes_in_place("gather_rows.out")
no_gradient("gather_rows", "gather_rows.out")

"""What a replay or a plan hands to whoever learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from machin_fast.data.columns import Column

RESERVED = frozenset(
    (
        "columns", "names", "index", "weight", "weighted", "mask", "burn_in", "as_sequences",
        "prioritized", "update_priority",
    )
)  # fmt: skip
"""Names that no column of a batch may have."""


class Batch:
    """Rows, most often of a replay. Columns are attributes, ``batch.state``, and items by name.

    Rows are ``[n]``, or ``[T, B]`` where they are sequences: B of them, side by side.

    Args:
        columns: For each name ``[n, ...]`` or ``[T, B, ...]``, or a list of objects.
        index: Which rows these are, int64: ``[n]``, or ``[B]`` the first of each sequence.
        weight: Importance weights in (0, 1], float32, like ``index``. None: ones.
        mask: ``[T, B]``, bool. False where a sequence has ended; what stands there repeats its
            last row.
        burn_in: Of a sequence, this many first steps only warm up a recurrent state.
        more: Fetches further columns by name, when they are asked for.
        update_priority: Takes ``index`` and new priorities.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        index: Tensor,
        weight: Tensor | None,
        *,
        mask: Tensor | None = None,
        burn_in: int = 0,
        more: Mapping[str, Callable[[], Column]] | None = None,
        update_priority: Callable[[Tensor, Tensor], None] | None = None,
    ) -> None:
        self.columns = dict(columns)
        self.index = index
        self._weight = weight
        self.mask = mask
        self.burn_in = burn_in
        self._more = dict(more or {})
        self._update_priority = update_priority

    def __getitem__(self, name: str) -> Any:
        if name not in self.columns and name in self._more:
            self.columns[name] = self._more[name]()
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns or name in self._more

    def names(self) -> list[str]:
        """All columns, fetched or not."""
        return [*self.columns, *(name for name in self._more if name not in self.columns)]

    @property
    def weight(self) -> Tensor:
        """Importance weights in (0, 1], float32, like ``index``."""
        return full_weight(self.index) if self._weight is None else self._weight

    @weight.setter
    def weight(self, weight: Tensor) -> None:
        self._weight = weight

    @property
    def weighted(self) -> bool:
        """Whether weights were given, which may differ from 1."""
        return self._weight is not None

    @property
    def prioritized(self) -> bool:
        """Whether ``update_priority`` does something."""
        return self._update_priority is not None

    def __len__(self) -> int:
        """Number of rows, or of sequences."""
        return self.index.shape[0]

    def as_sequences(
        self,
        start: Tensor,
        mask: Tensor,
        *,
        weight: Tensor | None = None,
        burn_in: int = 0,
        update_priority: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Batch:
        """These rows ``[T, B]`` as sequences, without a copy.

        Args:
            start: ``[B]``, first rows.
            mask: ``[T, B]``.
            weight: ``[B]``. None: ones.
            burn_in, update_priority: As of the class.

        Returns:
            The batch.
        """
        device = self.index.device  # of the columns; who chose may have been elsewhere
        start = start.to(device)
        return Batch(
            self.columns,
            start,
            None if weight is None else weight.to(device),
            mask=mask.to(device),
            burn_in=burn_in,
            more=self._more,
            update_priority=update_priority,
        )

    def update_priority(self, priority: Tensor) -> None:
        """Sets the priorities of these rows in the replay that they come from.

        Args:
            priority: Like ``index``, floating point, finite and not negative.

        Raises:
            ValueError: They come from no replay with priorities.
        """
        if self._update_priority is None:
            raise ValueError("Batch.update_priority: the batch must come from a prioritized replay")
        self._update_priority(self.index, priority)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...

    else:

        def __getattr__(self, name):
            columns = self.__dict__.get("columns", {})
            if name in columns or name in self.__dict__.get("_more", {}):
                return self[name]
            raise AttributeError(
                f"Batch: {name} must be a column, got none of that name among "
                f"{', '.join({**columns, **self.__dict__.get('_more', {})})}"
            )


def full_weight(index: Tensor) -> Tensor:
    """Weights of rows that were all equally likely."""
    return torch.ones(index.shape, dtype=torch.float32, device=index.device)

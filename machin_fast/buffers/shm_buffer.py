"""A buffer whose batches other processes can read."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from machin_fast.buffers.buffer import Buffer


class SHMBuffer(Buffer):
    """A buffer whose batches are in shared memory: worker processes get them without a copy.

    For replay memory that several processes write to, see ``machin_fast.data.SharedReplay``.
    """

    def post_process_attribute(self, attribute: str, sub_key: str | None, values: Any) -> Any:
        """Moves tensors of the CPU to shared memory.

        Args:
            attribute: Name.
            sub_key: Of a tensor in a major attribute; None for others.
            values: A tensor ``[n, ...]``, or a list.

        Returns:
            ``values``, or a copy where they are a view of other memory.
        """
        values = super().post_process_attribute(attribute, sub_key, values)
        if not isinstance(values, Tensor) or values.device.type != "cpu":
            return values
        whole = values.untyped_storage().nbytes() == values.nbytes
        return (values if whole else values.clone()).share_memory_()

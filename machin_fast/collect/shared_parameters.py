"""Parameters that a learner publishes and worker processes read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from machin_fast._actor_pool import VersionedBlock
from machin_fast.utils.anonymous_memory import AnonymousMemory

_ALIGNMENT = 16  # no dtype needs more


class _Entry(NamedTuple):
    dtype: torch.dtype
    shape: torch.Size
    begin: int
    end: int


class SharedParameters:
    """A state dict in shared memory, in versions: one process publishes, others read the newest.

    Nobody waits: the learner never for readers, and a reader only begins anew if two versions
    came while it read one. What is read is always one whole version, whoever dies when. Give it
    to a ``multiprocessing.Process`` (spawn or forkserver) as an argument::

        shared = SharedParameters(policy)
        shared.publish(policy)              # the learner, after an update

        version = shared.update(policy)     # a worker, before it acts
        behind = shared.lag(version)        # and later

    One process publishes at a time, and one thread uses the object.

    Args:
        like: A module, or its state dict, for names, shapes and dtypes. It is not published.

    Raises:
        TypeError: Something in the state dict is no tensor.
        MemoryError: Two copies do not fit into what is free.
    """

    def __init__(self, like: nn.Module | Mapping[str, Any]) -> None:
        self._entries = _lay_out(_state_of(like))
        size = max((entry.end for entry in self._entries.values()), default=0)
        self._memory = AnonymousMemory(VersionedBlock.bytes_needed(size))
        self._map(size)

    def _map(self, size: int) -> None:
        self._block = VersionedBlock(self._memory.fd, size)
        # Where a version is put together, and where it is checked for being whole.
        stage = torch.zeros(size, dtype=torch.uint8)
        self._bytes = stage.numpy().data
        self._stage = {
            name: stage[entry.begin : entry.end].view(entry.dtype).view(entry.shape)
            for name, entry in self._entries.items()
        }
        self._given: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    @property
    def version(self) -> int:
        """Of the newest parameters; 0 before the first are published."""
        return self._block.version

    def lag(self, version: int) -> int:
        """How many versions came after this one.

        Args:
            version: What ``update`` or ``read`` returned.

        Returns:
            0 for the newest.
        """
        return self.version - version

    def publish(self, module: nn.Module | Mapping[str, Tensor]) -> int:
        """Makes the parameters and buffers of a module the newest version.

        Args:
            module: The module, on any device, or its state dict.

        Returns:
            The version: 1, 2, ...

        Raises:
            ValueError, TypeError: Names, shapes or dtypes are others; nothing is published.
        """
        state = self._checked("publish", module)
        for name, tensor in state.items():
            self._stage[name].copy_(tensor)
        return self._block.publish(self._bytes)

    def update(self, module: nn.Module) -> int:
        """Brings a module up to date; cheap where nothing newer is there, so call it often.

        Args:
            module: On any device.

        Returns:
            The version that this object last gave the module; 0 if there is none yet.

        Raises:
            ValueError, TypeError: Names, shapes or dtypes are others; nothing is written.
        """
        given = self._given.get(module, 0)
        if self.version == given:
            return given
        state = self._checked("update", module)
        version = self._block.read(self._bytes, given)
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(self._stage[name])
        self._given[module] = version
        return version

    def read(self, newer_than: int = 0) -> tuple[int, dict[str, Tensor] | None]:
        """The newest version as a state dict of its own.

        Args:
            newer_than: A version that the caller has.

        Returns:
            The version and its tensors on the CPU; ``newer_than`` and None if none is newer.
        """
        version = self._block.read(self._bytes, newer_than)
        if version == newer_than:
            return version, None
        return version, {name: tensor.clone() for name, tensor in self._stage.items()}

    def _checked(
        self, method: str, module: nn.Module | Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        state = _state_of(module)
        for fault in self._faults(state):
            raise ValueError(f"SharedParameters.{method}: {fault}")
        return state

    def _faults(self, state: Mapping[str, Tensor]) -> Iterator[str]:
        for name in sorted(self._entries.keys() ^ state.keys()):
            came = f"none named {name!r}" if name in self._entries else f"{name!r} as well"
            yield f"module must have the parameters that this was made for, got {came}"
        for name, tensor in state.items():
            entry = self._entries[name]
            if tensor.shape != entry.shape:
                yield f"{name} must have shape {list(entry.shape)}, got {list(tensor.shape)}"
            if tensor.dtype != entry.dtype:
                yield f"{name} must be {entry.dtype}, got {tensor.dtype}"

    def close(self) -> None:
        """Lets no more processes have it; those that do go on. May be called twice."""
        self._memory.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"entries": self._entries, "memory": self._memory, "size": self._bytes.nbytes}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._entries = state["entries"]
        self._memory = state["memory"]
        self._map(state["size"])


def _state_of(module: nn.Module | Mapping[str, Any]) -> Mapping[str, Tensor]:
    state = module.state_dict() if isinstance(module, nn.Module) else module
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"SharedParameters: {name} must be a tensor, got {type(value).__name__}"
            )
    return state


def _lay_out(state: Mapping[str, Tensor]) -> dict[str, _Entry]:
    entries = {}
    end = 0
    for name, tensor in state.items():
        begin = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = begin + tensor.numel() * tensor.element_size()
        entries[name] = _Entry(tensor.dtype, tensor.shape, begin, end)
    return entries

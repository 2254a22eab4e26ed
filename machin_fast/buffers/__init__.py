"""Machin's replay buffers over columns in preallocated memory."""

from machin_fast.buffers.buffer import Buffer
from machin_fast.buffers.prioritized_buffer import PrioritizedBuffer
from machin_fast.buffers.rnn_buffers import RNNBuffer, RNNPrioritizedBuffer
from machin_fast.buffers.shm_buffer import SHMBuffer
from machin_fast.buffers.storage import TransitionStorageBase, TransitionStorageBasic
from machin_fast.buffers.weight_tree import WeightTree

__all__ = [
    "Buffer",
    "PrioritizedBuffer",
    "RNNBuffer",
    "RNNPrioritizedBuffer",
    "SHMBuffer",
    "TransitionStorageBase",
    "TransitionStorageBasic",
    "WeightTree",
]

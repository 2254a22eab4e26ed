"""Compiled operations on tensors, with CPU and CUDA twins. They need torch and numpy alone."""

from machin_fast.ops.gae import gae

__all__ = ["gae"]

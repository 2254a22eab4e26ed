"""Machin's buffers for recurrent models: batches of windows of successive steps."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from machin_fast.buffers.buffer import Buffer, draws_handles
from machin_fast.buffers.episodes import Places
from machin_fast.buffers.prioritized_buffer import PrioritizedBuffer
from machin_fast.buffers.storage import TransitionStorageBase


class RNNBuffer(Buffer):
    """A buffer drawn from in windows of ``sample_length`` steps of one episode.

    Episodes that are shorter are never drawn from. The size of a batch is its number of windows.
    Tensors are ``[windows, sample_length, ...]``, lists are lists of windows.

    Args:
        sample_length: Steps of a window.
        sample_dimension: Where the time axis stands in tensors: 0 is
            ``[sample_length, windows, ...]``, 1 ``[windows, sample_length, ...]``, 2
            ``[windows, d, sample_length, ...]`` of steps ``[1, d, ...]``, and so on. Where a
            tensor has less dimensions, it is the last.
        buffer_size: Most transitions to hold.
        buffer_device: Where tensors, but for those in custom attributes, are kept.
        storage: What keeps transitions instead of the built-in storage.
        **kwargs: Those of the class behind; unknown ones do nothing, and a warning says so.

    Raises:
        TypeError: ``buffer_size`` is no int.
        ValueError: An argument is less than 1, or ``sample_dimension`` is less than 0.
    """

    def __init__(
        self,
        sample_length: int,
        sample_dimension: int = 1,
        buffer_size: int = 1000000,
        buffer_device: str | torch.device = "cpu",
        storage: TransitionStorageBase | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value, least in (
            ("sample_length", sample_length, 1),
            ("sample_dimension", sample_dimension, 0),
        ):
            if value < least:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be at least {least}, got {value}"
                )
        super().__init__(buffer_size, buffer_device, storage=storage, **kwargs)
        self.sample_length = sample_length
        self.sample_dimension = sample_dimension

    @draws_handles
    def sample_method_random_unique(self, batch_size: int) -> tuple[int, Any]:
        """One window of each of ``batch_size`` different episodes, or of all if there are less."""
        long, starts = self._starts()
        n = max(0, min(batch_size, len(long)))
        return self._windows(long, starts, random.sample(range(len(long)), n))

    @draws_handles
    def sample_method_random(self, batch_size: int) -> tuple[int, Any]:
        """Windows of episodes drawn with replacement, at most as many as there are episodes."""
        long, starts = self._starts()
        n = max(0, min(batch_size, len(long)))
        return self._windows(long, starts, random.choices(range(len(long)), k=n) if n else [])

    @draws_handles
    def sample_method_all(self, batch_size: int) -> tuple[int, Any]:
        """All windows in the order in which they came, whatever ``batch_size`` is."""
        long, starts = self._starts()
        episode = np.repeat(long, starts)
        first = np.arange(len(episode)) - np.repeat(np.cumsum(starts) - starts, starts)
        return len(episode), self._episodes.windows(episode, first, self.sample_length)

    def _starts(self) -> tuple[Places, Places]:
        """Episodes that are long enough, and how many windows begin in each."""
        starts = self._episodes.lengths() - self.sample_length + 1
        long = np.flatnonzero(starts > 0)
        return long, starts[long]

    def _windows(self, long: Places, starts: Places, drawn: list[int]) -> tuple[int, Any]:
        """One window of each drawn episode, all its windows equally likely."""
        first = np.array([random.randrange(int(starts[i])) for i in drawn], np.int64)
        handles = self._episodes.windows(long[drawn], first, self.sample_length)
        return len(drawn), handles

    def post_process_attribute(self, attribute: str, sub_key: str | None, values: Any) -> Any:
        """Divides an attribute into windows.

        Args:
            attribute: Name.
            sub_key: Of a tensor in a major attribute; None for others.
            values: A tensor ``[windows * sample_length, ...]``, or a list.

        Returns:
            A tensor with a time axis, or a list of windows.
        """
        values = super().post_process_attribute(attribute, sub_key, values)
        length = self.sample_length
        if isinstance(values, Tensor):
            windows = values.unflatten(0, (-1, length))
            return windows.movedim(1, min(self.sample_dimension, windows.dim() - 1))
        return [values[i : i + length] for i in range(0, len(values), length)]


class RNNPrioritizedBuffer(RNNBuffer, PrioritizedBuffer):
    """A prioritized buffer drawn from in windows of ``sample_length`` steps of one episode.

    The priority of a transition is that of the window which it begins. One that begins no whole
    window has weight 0. Indexes of a batch are those of the first steps.

    Args:
        sample_length: Steps of a window.
        sample_dimension: As for ``RNNBuffer``.
        buffer_size: Most transitions to hold.
        buffer_device: Where tensors, but for those in custom attributes, are kept.
        epsilon: As for ``PrioritizedBuffer``.
        alpha: As for ``PrioritizedBuffer``.
        beta: As for ``PrioritizedBuffer``.
        beta_increment_per_sampling: As for ``PrioritizedBuffer``.
        **kwargs: Unknown ones do nothing, and a warning says so.

    Raises:
        TypeError: ``buffer_size`` is no int.
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        sample_length: int,
        sample_dimension: int = 1,
        buffer_size: int = 1000000,
        buffer_device: str | torch.device = "cpu",
        epsilon: float = 1e-2,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_increment_per_sampling: float = 0.001,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sample_length,
            sample_dimension,
            buffer_size,
            buffer_device,
            epsilon=epsilon,
            alpha=alpha,
            beta=beta,
            beta_increment_per_sampling=beta_increment_per_sampling,
            **kwargs,
        )
        self._least_steps = sample_length

    def _handles_of(self, index: Places) -> Places:
        return self._ring.following(self._ring.rows(index), self.sample_length)

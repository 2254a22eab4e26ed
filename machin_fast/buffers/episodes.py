"""Which handles are of which episode. Once a handle is reused, its whole old episode is gone."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Places = np.ndarray[Any, np.dtype[np.int64]]


class RingEpisodes:
    """Episodes in a ring of ``capacity`` places, at the cost of one number each.

    Rows are numbered from the first that ever came; the handle of a row is its place in the ring,
    row % capacity.

    Attributes:
        counter: Number of episodes since the last ``clear``.
        first: The oldest row of an episode that is whole.
        next: The number of the next row.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.counter = self.first = self.next = 0
        # First rows of episodes from _head to _tail, a queue, and at _tail `next`.
        self._starts = np.zeros(64, np.int64)
        self._head = self._tail = 0

    def __len__(self) -> int:
        """Number of transitions of all episodes."""
        return self.next - self.first

    def append(self, lengths: Sequence[int] | Places) -> None:
        """Adds episodes; those that lose a row to them leave.

        Args:
            lengths: Of each, at least 1, together at most ``capacity``.
        """
        n = len(lengths)
        if self._tail + n >= len(self._starts):
            live = self._bounds()
            self._starts = np.zeros(2 * (len(live) + n), np.int64)
            self._starts[: len(live)] = live
            self._head, self._tail = 0, len(live) - 1
        if n == 1:
            self._starts[self._tail + 1] = self.next + lengths[0]
        else:
            ends = self._starts[self._tail + 1 : self._tail + 1 + n]
            np.cumsum(lengths, out=ends)
            ends += self.next
        self._tail += n
        self.counter += n
        self.next = int(self._starts[self._tail])
        overwritten = self.next - self.capacity
        if self.first < overwritten:
            self._head += int(np.searchsorted(self._bounds(), overwritten))
            self.first = int(self._starts[self._head])

    def clear(self) -> None:
        """Forgets all episodes. The next row is a new one, at place 0."""
        self.next += -self.next % self.capacity
        self.first = self._starts[0] = self.next
        self.counter = self._head = self._tail = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything, for ``load_state_dict``."""
        # The first is `first`, behind the last is `next`.
        return {"counter": self.counter, "starts": torch.from_numpy(self._bounds().copy())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave."""
        self._starts = state["starts"].cpu().numpy().copy()
        self._head, self._tail = 0, len(self._starts) - 1
        self.first, self.next = self._starts[[0, -1]].tolist()
        self.counter = state["counter"]

    def at(self, positions: Sequence[int] | Places) -> Places:
        """Handles of transitions by their positions, counted from the oldest."""
        return (self.first + np.asarray(positions, np.int64)) % self.capacity

    def lengths(self) -> Places:
        """Steps of each episode, from the oldest."""
        return np.diff(self._bounds())

    def windows(self, episode: Places, start: Places, length: int) -> Places:
        """Handles of ``length`` steps of each of some episodes.

        Args:
            episode: ``[n]``, counted from the oldest.
            start: ``[n]``, the first step, counted from the start of the episode.
            length: Number of steps, not past the end of the episode.

        Returns:
            ``[n * length]``.
        """
        return self.following(self._bounds()[episode] + start, length)

    def following(self, rows: Places, length: int) -> Places:
        """Handles of ``length`` rows from each of ``rows`` on, ``[n * length]``."""
        return ((rows[:, None] + np.arange(length)) % self.capacity).reshape(-1)

    def rows(self, handles: Places) -> Places:
        """The newest row of each handle; one below ``first`` if there is none."""
        last = self.next - 1
        return last - (last - handles) % self.capacity

    def left(self, rows: Places) -> Places:
        """Steps from each row to the end of its episode, itself included; 0 if it is gone."""
        bounds = self._bounds()
        end = np.searchsorted(bounds, rows, side="right")
        return np.where(end > 0, bounds[np.minimum(end, len(bounds) - 1)] - rows, 0)

    @property
    def of_handle(self) -> Mapping[int, int]:
        """The episode of each handle, in the order in which transitions came."""
        return _EpisodeOfHandle(self)

    @property
    def handles(self) -> Mapping[int, list[int]]:
        """The handles of each episode."""
        return _HandlesOfEpisode(self)

    def _bounds(self) -> Places:
        """First rows of the episodes, and ``next``."""
        return self._starts[self._head : self._tail + 1]


class _EpisodeOfHandle(Mapping[int, int]):
    """Reads like the dict that Machin keeps."""

    def __init__(self, episodes: RingEpisodes) -> None:
        self._episodes = episodes

    def __getitem__(self, handle: int) -> int:
        ring = self._episodes
        if not (isinstance(handle, int | np.integer) and 0 <= handle < ring.capacity):
            raise KeyError(handle)
        row = ring.rows(np.array([handle]))
        if row[0] < ring.first:
            raise KeyError(handle)
        bounds = ring._bounds()
        oldest = ring.counter - (len(bounds) - 1)
        return oldest + int(np.searchsorted(bounds, row[0], side="right")) - 1

    def __iter__(self) -> Iterator[int]:
        ring = self._episodes
        return iter(ring.at(np.arange(len(ring))).tolist())

    def __len__(self) -> int:
        return len(self._episodes)

    def __repr__(self) -> str:
        return repr(dict(self))


class _HandlesOfEpisode(Mapping[int, list[int]]):
    """Reads like the dict that Machin keeps."""

    def __init__(self, episodes: RingEpisodes) -> None:
        self._episodes = episodes

    def __getitem__(self, episode: int) -> list[int]:
        ring = self._episodes
        position = episode - (ring.counter - len(self)) if isinstance(episode, int) else -1
        if not 0 <= position < len(self):
            raise KeyError(episode)
        first, end = ring._bounds()[position : position + 2].tolist()
        return [row % ring.capacity for row in range(first, end)]

    def __iter__(self) -> Iterator[int]:
        counter = self._episodes.counter
        return iter(range(counter - len(self), counter))

    def __len__(self) -> int:
        return len(self._episodes._bounds()) - 1

    def __repr__(self) -> str:
        return repr(dict(self))


class ListedEpisodes:
    """Episodes of any storage, whose handles are any hashable objects.

    Attributes:
        counter: Number of episodes since the last ``clear``.
        of_handle: The episode of each handle, in the order in which transitions came.
        handles: The handles of each episode.
    """

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        """Number of transitions of all episodes."""
        return len(self.of_handle)

    def append(self, handles: Sequence[Hashable]) -> None:
        """Adds an episode; those whose handles it reuses leave."""
        for handle in handles:
            if handle in self.of_handle:
                for gone in self.handles.pop(self.of_handle[handle]):
                    del self.of_handle[gone]
        self.of_handle.update(dict.fromkeys(handles, self.counter))
        self.handles[self.counter] = list(handles)
        self.counter += 1

    def clear(self) -> None:
        """Forgets all episodes."""
        self.counter = 0
        self.of_handle: dict[Any, int] = {}
        self.handles: dict[int, list[Any]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Everything, for ``load_state_dict``."""
        handles = {episode: list(handles) for episode, handles in self.handles.items()}
        return {"counter": self.counter, "handles": handles}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave."""
        self.counter = state["counter"]
        self.handles = {episode: list(handles) for episode, handles in state["handles"].items()}
        self.of_handle = {
            handle: episode for episode, handles in self.handles.items() for handle in handles
        }

    def at(self, positions: Sequence[int] | Places) -> list[Any]:
        """Handles of transitions by their positions, counted from the oldest."""
        handles = list(self.of_handle)
        return [handles[position] for position in positions]

    def lengths(self) -> Places:
        """Steps of each episode, from the oldest."""
        return np.array([len(handles) for handles in self.handles.values()], np.int64)

    def windows(self, episode: Places, start: Places, length: int) -> list[Any]:
        """Handles of ``length`` steps of each of some episodes, one after the other."""
        handles = list(self.handles.values())
        return [
            handle
            for number, first in zip(episode, start, strict=True)
            for handle in handles[number][first : first + length]
        ]

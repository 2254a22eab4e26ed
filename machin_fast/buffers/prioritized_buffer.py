"""Machin's prioritized replay buffer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from machin_fast.buffers.buffer import REQUIRED_ATTRS, Buffer, Device, Step
from machin_fast.buffers.episodes import Places, RingEpisodes
from machin_fast.buffers.rows import Rows
from machin_fast.buffers.weight_tree import WeightTree

__all__ = ["DrawnIndexes", "PrioritizedBuffer", "WeightTree"]

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Priorities: TypeAlias = Sequence[float] | np.ndarray[Any, Any] | Tensor

_PARAMETERS = ("epsilon", "alpha", "beta", "beta_increment_per_sampling", "curr_beta")


class DrawnIndexes(np.ndarray[Any, np.dtype[np.int64]]):
    """Indexes that ``sample_batch`` returned, and the rows that they stood for then.

    An array of its own right: what is computed from it, a slice included, knows no rows.
    """

    rows: Places | None

    def __array_finalize__(self, other: object) -> None:
        self.rows = None


class PrioritizedBuffer(Buffer):
    """A buffer whose transitions are drawn in proportion to their priorities.

    A transition of priority p has the weight ``(|p| + epsilon) ** alpha``. One that comes without
    has the largest priority seen so far, 0 at first. One whose episode was partly overwritten has
    weight 0, and one of weight 0 is not drawn, unless all are 0: then all are drawn alike.

    Source: Schaul et al. 2016, arXiv:1511.05952, proportional variant, algorithm 1.

    Args:
        buffer_size: Most transitions to hold.
        buffer_device: Where tensors, but for those in custom attributes, are kept.
        epsilon: Added to priorities, so that none is 0; at least 0.
        alpha: How much priorities count, at least 0; 0 draws uniformly.
        beta: How much of the bias of the draws importance weights undo at first, in [0, 1].
        beta_increment_per_sampling: Added to that by each ``sample_batch``, up to 1.
        **kwargs: Unknown ones do nothing, and a warning says so.

    Attributes:
        wt_tree: The weights by handle.
        curr_beta: Present beta.
        stale_updates: Number of new priorities that came too late, see ``update_priority``.

    Raises:
        TypeError: ``buffer_size`` is no int.
        ValueError: An argument is not as listed above.
    """

    # Steps of its episode that must follow a transition, itself included, for it to be drawn.
    _least_steps = 1

    def __init__(
        self,
        buffer_size: int = 1000000,
        buffer_device: str | torch.device = "cpu",
        epsilon: float = 1e-2,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_increment_per_sampling: float = 0.001,
        **kwargs: Any,
    ) -> None:
        limits = (
            ("epsilon", epsilon, np.inf),
            ("alpha", alpha, np.inf),
            ("beta", beta, 1),
            ("beta_increment_per_sampling", beta_increment_per_sampling, np.inf),
        )
        for name, value, most in limits:
            if not 0 <= value <= most or value == np.inf:
                rule = "finite and at least 0" if most == np.inf else f"in [0, {most}]"
                raise ValueError(f"{type(self).__name__}: {name} must be {rule}, got {value}")
        super().__init__(buffer_size, buffer_device, **kwargs)
        if not isinstance(self._episodes, RingEpisodes):
            raise ValueError(
                f"{type(self).__name__}: storage must be None, as weights are kept by place in "
                f"the built-in storage, got {type(self.storage).__name__}"
            )
        self._ring = self._episodes
        self.epsilon = epsilon
        self.alpha = alpha
        self.beta = beta
        self.beta_increment_per_sampling = beta_increment_per_sampling
        self.stale_updates = 0
        self._reset()

    def _reset(self) -> None:
        self.curr_beta = self.beta
        self.wt_tree = WeightTree(self.buffer_size)
        self._largest = 0.0  # priority, before alpha

    def clear(self) -> None:
        """Forgets everything, weights and the progress of beta included."""
        super().clear()
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        """As for ``Buffer``, with weights and what they are computed by."""
        leaves = self.wt_tree.get_leaf_all_weights()[: self.size()]
        return {
            **super().state_dict(),
            "parameters": {name: getattr(self, name) for name in _PARAMETERS},
            "stale_updates": self.stale_updates,
            "largest": self._largest,
            # What stands above the leaves is computed from them.
            "leaves": torch.from_numpy(leaves.copy()),
            "max_leaf": self.wt_tree.max_leaf,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As for ``Buffer``, with weights and what they are computed by."""
        super().load_state_dict(state)
        for name in _PARAMETERS:
            setattr(self, name, state["parameters"][name])
        self.stale_updates = state["stale_updates"]
        self._largest = state["largest"]
        leaves = np.zeros(self.buffer_size)
        leaves[: self.size()] = state["leaves"].cpu().numpy()
        self.wt_tree.update_all_leaves(leaves)
        self.wt_tree.max_leaf = state["max_leaf"]

    # -- storing -------------------------------------------------------------------------------

    def store_episode(  # type: ignore[override]
        self,
        episode: Sequence[Step],
        priorities: Priorities | None = None,
        required_attrs: Iterable[str] = REQUIRED_ATTRS,
    ) -> None:
        """Stores copies of the steps of an episode, or of a part of one.

        Args:
            episode: As for ``Buffer``.
            priorities: One for each, of any sign, finite. None: the largest so far.
            required_attrs: As for ``Buffer``.

        Raises:
            ValueError: As for ``Buffer``, or priorities are not as listed above. Then nothing is
                changed.
        """
        rows = self._transitions(episode, required_attrs)
        self._store(rows, [len(rows)], priorities)

    def append(  # type: ignore[override]
        self,
        transition: Step,
        priority: float | None = None,
        required_attrs: Iterable[str] = REQUIRED_ATTRS,
    ) -> None:
        """Stores an episode of one step, as Machin 0.4.2 did.

        Args:
            transition: As in ``store_episode``.
            priority: Of any sign, finite. None: the largest so far.
            required_attrs: As in ``store_episode``.

        Raises:
            ValueError: As ``store_episode`` does.
        """
        rows = self._transitions([transition], required_attrs)
        self._store(rows, [1], None if priority is None else [priority])

    def store_transitions(
        self, columns: Mapping[str, Any], priorities: Priorities | None = None
    ) -> None:
        """Stores a batch of unrelated transitions, each an episode of its own.

        Args:
            columns: As for ``Buffer``.
            priorities: ``[n]``, of any sign, finite. None: the largest so far.

        Raises:
            TypeError: As for ``Buffer``.
            ValueError: As for ``Buffer``, or priorities are not as listed above. Then nothing is
                changed.
        """
        rows = self._rows_of(columns)
        self._store(rows, np.ones(len(rows), np.int64), priorities)

    def store_rollout(
        self, columns: Mapping[str, Any], priorities: Priorities | None = None
    ) -> None:
        """Stores steps of several environments, cut into the episodes of each.

        Args:
            columns: As for ``Buffer``.
            priorities: ``[steps, envs]``, of any sign, finite. None: the largest so far.

        Raises:
            TypeError: As for ``Buffer``.
            ValueError: As for ``Buffer``, or priorities are not as listed above. Then nothing is
                changed.
        """
        rows, lengths = self._rows_of_rollout(columns)
        if priorities is not None:
            shape = np.shape(columns["terminal"])[:2]
            given = _numbers(priorities)
            if given.shape != shape:
                raise ValueError(
                    f"{type(self).__name__}.store_rollout: priorities must be {list(shape)}, "
                    f"got {list(given.shape)}"
                )
            priorities = given.T.reshape(-1)
        self._store(rows, lengths, priorities)

    def _store(
        self,
        rows: Rows,
        lengths: Sequence[int] | Places,
        priorities: Priorities | None = None,
    ) -> None:
        n = len(rows)
        if priorities is None:
            weights = np.full(n, (self._largest + self.epsilon) ** self.alpha)
            largest = self._largest
        else:
            given = _numbers(priorities)
            weights = self._weights(type(self).__name__, given, (n,))
            largest = max(self._largest, float(np.abs(given).max(initial=0)))
        oldest = self._ring.first
        super()._store(rows, lengths)
        self._largest = largest
        new = np.arange(self._ring.next - n, self._ring.next)
        if self._least_steps > 1:
            weights *= self._drawable(new)
        if oldest < self._ring.first:
            gone = np.arange(oldest, self._ring.first)
            self.wt_tree.set_checked(np.zeros(len(gone)), gone % self._ring.capacity)
        self.wt_tree.set_checked(weights, new % self._ring.capacity)

    def update_priority(
        self, priorities: Priorities, indexes: Sequence[int] | Places | Tensor
    ) -> None:
        """Sets priorities of transitions.

        Those that cannot be drawn any more are skipped. If ``indexes`` is the very array that
        ``sample_batch`` returned, so are those that were overwritten since; of any other array,
        they mean what is there now. ``stale_updates`` counts what is skipped.

        Args:
            priorities: ``[n]``, of any sign, finite.
            indexes: ``[n]``, in [0, buffer_size). Of a repeated one the last counts.

        Raises:
            TypeError: ``indexes`` are no integers.
            ValueError: Something is not as listed above; then nothing is changed.
        """
        op = f"{type(self).__name__}.update_priority"
        handles = self.wt_tree.check_index(op, indexes)
        given = _numbers(priorities)
        weights = self._weights(op, given, handles.shape)
        rows = self._ring.rows(handles)
        good = self._drawable(rows)
        if isinstance(indexes, DrawnIndexes) and indexes.rows is not None:
            good &= rows == indexes.rows
        self.stale_updates += len(good) - int(good.sum())
        self._largest = max(self._largest, float(np.abs(given[good]).max(initial=0)))
        self.wt_tree.set_checked(weights[good], handles[good])

    def _weights(self, op: str, priorities: Array, shape: tuple[int, ...]) -> Array:
        """Of priorities, checked."""
        if priorities.shape != shape or len(shape) != 1:
            raise ValueError(
                f"{op}: Dimension of weights and indexes doesn't match: priorities must be "
                f"[n] like indexes, {list(shape)}, got {list(priorities.shape)}"
            )
        finite = np.isfinite(priorities)
        if not finite.all():
            position = int(finite.argmin())
            raise ValueError(
                f"{op}: priorities must be finite, got {priorities[position]} "
                f"at position {position}"
            )
        with np.errstate(over="ignore"):
            weights = (np.abs(priorities) + self.epsilon) ** self.alpha
        return self.wt_tree.check_weights(op, weights)

    # -- drawing -------------------------------------------------------------------------------

    def sample_batch(  # type: ignore[override]
        self,
        batch_size: int,
        concatenate: bool = True,
        device: Device = "cpu",
        sample_attrs: Sequence[str] | None = None,
        additional_concat_custom_attrs: Sequence[str] | None = None,
        *_: Any,
        **kwargs: Any,
    ) -> tuple[int, tuple[Any, ...] | None, Places | None, Array | None]:
        """Draws a batch with replacement, one transition from each of equal parts of all weights.

        Args:
            batch_size: Number of transitions; may be more than there are.
            concatenate: As for ``Buffer``.
            device: As for ``Buffer``.
            sample_attrs: As for ``Buffer``.
            additional_concat_custom_attrs: As for ``Buffer``.

        Returns:
            The size of the batch; attributes as for ``Buffer``; indexes, ``[n]``, int64, for
            ``update_priority``; importance weights, ``[n]``, float64, the largest of which is 1.
            0 and None if there is nothing to draw.

        Raises:
            ValueError: Something cannot be concatenated.
        """
        concat = self._concat_attrs("sample_batch", additional_concat_custom_attrs, kwargs)
        if batch_size <= 0 or not (self.wt_tree.get_weight_sum() or len(self._drawable_handles())):
            return 0, None, None, None
        index, is_weight = self.sample_index_and_weight(batch_size)
        handles = self._handles_of(index)
        result = self._fetch(handles, device, concatenate, sample_attrs, concat)
        drawn = index.view(DrawnIndexes)
        drawn.rows = self._ring.rows(index)
        return batch_size, result, drawn, is_weight

    def sample_index_and_weight(
        self, batch_size: int, all_weight_sum: float | None = None
    ) -> tuple[Places, Array]:
        """Draws indexes, by numpy's global generator, and moves beta on.

        Source: Schaul et al. 2016, arXiv:1511.05952, section 3.4 and appendix B.2.1.

        Args:
            batch_size: Number of draws, at least 1. There must be something to draw.
            all_weight_sum: Of several buffers of which this is one. None: of this.

        Returns:
            Indexes and importance weights, each ``[batch_size]``.
        """
        part = np.random.uniform(size=batch_size)  # noqa: NPY002 (Machin's users seed that one)
        nth = np.arange(batch_size)
        total = self.wt_tree.get_weight_sum()
        if total > 0:
            segment = total / batch_size
            target = part * segment + nth * segment
            # Above 0, since at 0 the first leaf is found even if its weight is 0.
            target = np.clip(target, np.nextafter(0.0, 1.0), total)
            index = self.wt_tree.find_leaf_index(target)
            probability = self.wt_tree.get_leaf_weight(index) / (all_weight_sum or total)
        else:
            drawable = self._drawable_handles()
            position = ((part + nth) * (len(drawable) / batch_size)).astype(np.int64)
            index = drawable[np.minimum(position, len(drawable) - 1)]
            probability = np.full(batch_size, 1 / len(drawable))
        is_weight = (len(self.storage) * probability) ** -self.curr_beta
        self.curr_beta = min(1.0, self.curr_beta + self.beta_increment_per_sampling)
        return index, is_weight / is_weight.max()

    def _handles_of(self, index: Places) -> Places:
        """The transitions that drawn indexes stand for."""
        return index

    def _drawable(self, rows: Places) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return self._ring.left(rows) >= self._least_steps

    def _drawable_handles(self) -> Places:
        rows = np.arange(self._ring.first, self._ring.next)
        return rows[self._drawable(rows)] % self._ring.capacity


def _numbers(priorities: Priorities) -> Array:
    if isinstance(priorities, Tensor):
        priorities = priorities.detach().cpu().double().numpy()
    return np.asarray(priorities, np.float64)

"""Machin's replay buffer."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from machin_fast.buffers import buffer_state
from machin_fast.buffers._trajectory import columns_of
from machin_fast.buffers.episodes import ListedEpisodes, Places, RingEpisodes
from machin_fast.buffers.n_step import n_step_rows
from machin_fast.buffers.rows import Rows
from machin_fast.buffers.storage import TransitionStorageBase, TransitionStorageBasic
from machin_fast.data.trajectory import Trajectory
from machin_fast.transition import Transition, TransitionBase

Device: TypeAlias = str | torch.device | None
Step: TypeAlias = TransitionBase | Mapping[str, Any]
SampleMethod: TypeAlias = Callable[..., tuple[int, list[TransitionBase]]]
Draw: TypeAlias = Callable[[Any, int], tuple[int, Any]]

REQUIRED_ATTRS = ("state", "action", "next_state", "reward", "terminal")


def draws_handles(draw: Draw) -> SampleMethod:
    """A sample method of one that draws handles, whose transitions can then be fetched at once.

    Args:
        draw: Method that takes a batch size and returns that of the result, and handles.

    Returns:
        Method that returns that of the result, and transitions.
    """

    @functools.wraps(draw)
    def sample_method(self: Buffer, batch_size: int) -> tuple[int, list[TransitionBase]]:
        n, handles = draw(self, batch_size)
        return n, self._rows(handles).transitions()

    sample_method.draw = draw  # type: ignore[attr-defined]
    return sample_method


class Buffer:
    """A ring of transitions that come in episodes, drawn from uniformly.

    When it is full, new transitions take the place of the oldest. From an episode that loses one,
    none is drawn any more. Not thread safe.

    Args:
        buffer_size: Most transitions to hold.
        buffer_device: Where tensors, but for those in custom attributes, are kept.
        storage: What keeps transitions instead of the built-in storage.
        n_step: Steps of a transition as it is stored: ``reward`` is the discounted sum of so many
            (less where the episode ends), ``next_state`` and ``terminal`` are those of the last,
            and a custom attribute ``discount`` belongs before its value.
        discount: Per step, in [0, 1], with ``n_step``.
        **kwargs: Unknown ones do nothing, and a warning says so.

    Attributes:
        storage: What keeps the transitions.

    Raises:
        TypeError: ``buffer_size`` is no int.
        ValueError: It or ``n_step`` is less than 1, or ``discount`` is not in [0, 1].
    """

    def __init__(
        self,
        buffer_size: int = 1000000,
        buffer_device: str | torch.device = "cpu",
        storage: TransitionStorageBase | None = None,
        *,
        n_step: int = 1,
        discount: float = 0.99,
        **kwargs: Any,
    ) -> None:
        self._warn_unknown("__init__", kwargs)
        if n_step < 1:
            raise ValueError(f"{type(self).__name__}: n_step must be at least 1, got {n_step}")
        if not 0 <= discount <= 1:
            raise ValueError(f"{type(self).__name__}: discount must be in [0, 1], got {discount}")
        self.n_step = n_step
        self.discount = discount
        self.buffer_size = buffer_size
        self.buffer_device = buffer_device
        self._episodes: RingEpisodes | ListedEpisodes
        self.storage: TransitionStorageBase
        if storage is None:
            self.storage = TransitionStorageBasic(buffer_size, buffer_device)
            self._episodes = RingEpisodes(buffer_size)
        else:
            self.storage = storage
            self._episodes = ListedEpisodes()

    @property
    def episode_counter(self) -> int:
        """Number of episodes that came since the last ``clear``."""
        return self._episodes.counter

    @property
    def transition_episode_number(self) -> Mapping[Any, int]:
        """The episode of each handle that can be drawn, in the order in which they came."""
        return self._episodes.of_handle

    @property
    def episode_transition_handles(self) -> Mapping[int, list[Any]]:
        """The handles of each episode that can be drawn from."""
        return self._episodes.handles

    def size(self) -> int:
        """Number of stored transitions, those that cannot be drawn any more included."""
        return len(self.storage)

    def clear(self) -> None:
        """Forgets everything."""
        self.storage.clear()
        self._episodes.clear()

    def state_dict(self) -> dict[str, Any]:
        """All that is in the buffer, for ``load_state_dict`` and ``utils.state_file``.

        Draws also depend on Python's and numpy's generators, which are not part of it.

        Returns:
            Numbers, strings, copies of tensors, lists and dicts of them. Custom attributes that
            are neither are the stored objects; so are transitions where they differ in their
            attributes or are of another class than ``Transition``.

        Raises:
            TypeError: The storage is not the built-in one and has no ``state_dict``.
        """
        return buffer_state.take(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave: with the same random numbers, the next draws are
        those of that buffer.

        Args:
            state: Of a buffer of the same class, size and settings, on any device.

        Raises:
            TypeError: The storage is not the built-in one and has no ``load_state_dict``.
            ValueError: The buffer was another one; then nothing is changed.
        """
        buffer_state.put(self, state)

    # -- storing -------------------------------------------------------------------------------

    def store_episode(
        self, episode: Sequence[Step], required_attrs: Iterable[str] = REQUIRED_ATTRS
    ) -> None:
        """Stores copies of the steps of an episode, or of a part of one.

        Args:
            episode: Transitions, or dicts of what ``Transition`` takes.
            required_attrs: Attributes that each must have. Dicts must have those that
                ``Transition`` needs anyway.

        Raises:
            ValueError: The episode is empty or longer than the buffer, or a transition is no
                dict, lacks an attribute or is not valid. Then nothing is changed.
        """
        self._store(self._transitions(episode, required_attrs), [len(episode)])

    def append(self, transition: Step, required_attrs: Iterable[str] = REQUIRED_ATTRS) -> None:
        """Stores an episode of one step, as Machin 0.4.2 did.

        Args:
            transition: As in ``store_episode``.
            required_attrs: As in ``store_episode``.

        Raises:
            ValueError: As ``store_episode`` does.
        """
        self._store(self._transitions([transition], required_attrs), [1])

    def store_transition(self, transition: Step) -> None:
        """Stores an episode of one step, as Machin before 0.4.2 did.

        Args:
            transition: As in ``store_episode``.

        Raises:
            ValueError: As ``store_episode`` does.
        """
        self.append(transition)

    def store_transitions(self, columns: Mapping[str, Any]) -> None:
        """Stores a batch of unrelated transitions, each an episode of its own.

        Args:
            columns: ``state``, ``action`` and ``next_state``: for each name ``[n, ...]``;
                ``reward`` and ``terminal``: numbers ``[n]`` or tensors ``[n, ...]``; custom
                attributes: likewise, or lists of n objects. n is at most the buffer's size.

        Raises:
            TypeError: Something is no column, or ``terminal`` is no bool.
            ValueError: Columns do not fit each other, or are too long. Then nothing is changed.
        """
        rows = self._rows_of(columns)
        self._store(rows, np.ones(len(rows), np.int64))

    def store_rollout(self, columns: Mapping[str, Any]) -> None:
        """Stores steps of several environments, cut into the episodes of each.

        An episode ends with a ``terminal`` step, with a ``truncated`` one if there is such a
        column, and with the last step.

        Args:
            columns: Tensors and arrays as in ``store_transitions``, but ``[steps, envs, ...]``.

        Raises:
            TypeError: Something is no column, or ``terminal`` is no bool.
            ValueError: Columns do not fit each other, or are too long. Then nothing is changed.
        """
        self._store(*self._rows_of_rollout(columns))

    def store_trajectory(self, trajectory: Trajectory) -> None:
        """Stores the segments of a trajectory, each an episode or a part of one.

        Args:
            trajectory: With state, action, reward and what followed each step; other columns are
                custom attributes. ``terminated`` is stored as ``terminal``.

        Raises:
            ValueError: Something is missing, or it is too long. Then nothing is changed.
        """
        rows = self._rows_of(columns_of(f"{type(self).__name__}.store_trajectory", trajectory))
        self._store(rows, trajectory.lengths.numpy())

    def _transitions(self, episode: Sequence[Step], required_attrs: Iterable[str]) -> Rows:
        op = f"{type(self).__name__}.store_episode"
        if not len(episode):
            raise ValueError(f"{op}: Episode must be non-empty")
        required = frozenset(required_attrs)
        default = required.union(REQUIRED_ATTRS)
        transitions = []
        for position, step in enumerate(episode):
            if isinstance(step, TransitionBase):
                missing = required.difference(step.keys())
            elif isinstance(step, (dict, Mapping)):  # the usual one first, it is fast
                missing = default.difference(step)
            else:
                raise ValueError(
                    f"{op}: Transition object must be a dict or an instance of TransitionBase, "
                    f"got {type(step).__name__} at position {position}"
                )
            if missing:
                raise ValueError(
                    f"{op}: Transition object missing attributes: "
                    f"{', '.join(sorted(missing))} at position {position}"
                )
            transitions.append(step if isinstance(step, TransitionBase) else Transition(**step))
        return Rows.whole(transitions)

    def _rows_of(self, columns: Mapping[str, Any]) -> Rows:
        op = f"{type(self).__name__}.store_transitions"
        return Rows.of_columns(op, columns, torch.device(self.buffer_device))

    def _rows_of_rollout(self, columns: Mapping[str, Any]) -> tuple[Rows, Places]:
        op = f"{type(self).__name__}.store_rollout"
        return Rows.of_rollout(op, columns, torch.device(self.buffer_device))

    def _store(self, rows: Rows, lengths: Sequence[int] | Places) -> None:
        """Stores rows as episodes of these lengths, one after the other."""
        if not len(rows):
            return
        if self.n_step > 1:
            op, device = type(self).__name__, torch.device(self.buffer_device)
            if rows.layout is None:
                rows = Rows.copied(rows.transitions(), device)
            rows = n_step_rows(op, rows, lengths, self.n_step, self.discount)
        if isinstance(self._episodes, RingEpisodes):
            assert isinstance(self.storage, TransitionStorageBasic)
            self.storage.store(rows)
            self._episodes.append(lengths)
            return
        transitions = rows.transitions()
        begin = 0
        for length in lengths:
            handles = self.storage.store_episode(transitions[begin : begin + length])
            self._episodes.append(handles)
            begin += length

    # -- drawing -------------------------------------------------------------------------------

    def sample_batch(
        self,
        batch_size: int,
        concatenate: bool = True,
        device: Device = "cpu",
        sample_method: str | SampleMethod = "random_unique",
        sample_attrs: Sequence[str] | None = None,
        additional_concat_custom_attrs: Sequence[str] | None = None,
        *_: Any,
        **kwargs: Any,
    ) -> tuple[int, tuple[Any, ...] | None]:
        """Draws a batch.

        Args:
            batch_size: Number of transitions to draw; how it is understood is up to the method.
            concatenate: Tensors for major and sub attributes: tensors joined in dimension 0,
                numbers as ``[n, 1]``. Otherwise lists of what transitions hold.
            device: Where tensors, but for those in lists of custom attributes, shall be. None:
                where the buffer keeps them.
            sample_method: "random_unique", "random", "all", any other whose method
                ``sample_method_<name>`` is there, or a function of this buffer and
                ``batch_size`` that returns the size of the batch and a list of transitions.
            sample_attrs: Attributes to return. "*" is a dict of all custom attributes that are
                not named; names of none are skipped. None: all.
            additional_concat_custom_attrs: Custom attributes to concatenate, too.

        Returns:
            The size of the batch; for each attribute a dict of tensors (major), a tensor (sub) or
            a list (custom). None instead of attributes if the size is 0.

        Raises:
            RuntimeError: There is no such method.
            ValueError: Something cannot be concatenated.
        """
        concat = self._concat_attrs("sample_batch", additional_concat_custom_attrs, kwargs)
        method = self._sample_method(sample_method)
        draw: Draw | None = getattr(method, "draw", None)
        if draw is not None:
            n, handles = draw(self, batch_size)
            return n, self._fetch(handles, device, concatenate, sample_attrs, concat)
        n, batch = method(self, batch_size)
        return n, self.post_process_batch(batch, device, concatenate, sample_attrs, concat)

    @draws_handles
    def sample_method_random_unique(self, batch_size: int) -> tuple[int, Any]:
        """Draws ``batch_size`` different transitions; all in random order if there are less."""
        valid = len(self._episodes)
        n = max(0, min(batch_size, valid))
        return n, self._episodes.at(random.sample(range(valid), n))

    @draws_handles
    def sample_method_random(self, batch_size: int) -> tuple[int, Any]:
        """Draws transitions with replacement, at most as many as there are."""
        valid = len(self._episodes)
        n = max(0, min(batch_size, valid))
        return n, self._episodes.at(random.choices(range(valid), k=n) if n else [])

    @draws_handles
    def sample_method_all(self, batch_size: int) -> tuple[int, Any]:
        """All transitions in the order in which they came, whatever ``batch_size`` is."""
        valid = len(self._episodes)
        return valid, self._episodes.at(np.arange(valid))

    def _sample_method(self, sample_method: str | SampleMethod) -> SampleMethod:
        """A function of this buffer and a batch size."""
        if not isinstance(sample_method, str):
            return sample_method
        method = getattr(self, f"sample_method_{sample_method}", None)
        if method is None:
            known = [name[14:] for name in dir(self) if name.startswith("sample_method_")]
            raise RuntimeError(
                f"{type(self).__name__}.sample_batch: Cannot find specified sample method: "
                f"sample_method must be one of {', '.join(known)}, got {sample_method}"
            )
        if hasattr(method, "draw"):
            return method
        return lambda _, batch_size: method(batch_size)

    def _fetch(
        self,
        handles: Any,
        device: Device,
        concatenate: bool,
        sample_attrs: Sequence[str] | None,
        concat: Sequence[str],
    ) -> tuple[Any, ...] | None:
        """What ``post_process_batch`` makes of the transitions, without making them if it can."""
        if not len(handles):
            return None
        rows = self._rows(handles)
        if _is(self.post_process_batch, Buffer.post_process_batch):
            return self._collate(rows, device, concatenate, sample_attrs, concat)
        batch = rows.transitions()
        return self.post_process_batch(batch, device, concatenate, sample_attrs, concat)

    def _rows(self, handles: Any) -> Rows:
        """The transitions of handles."""
        if type(self.storage) is TransitionStorageBasic and len(handles):
            return self.storage.read(np.asarray(handles))
        return Rows.whole([self.storage[handle] for handle in handles])

    # -- from transitions to a batch -----------------------------------------------------------

    def post_process_batch(
        self,
        batch: list[TransitionBase],
        device: Device,
        concatenate: bool,
        sample_attrs: Sequence[str] | None,
        additional_concat_custom_attrs: Sequence[str] | None,
    ) -> tuple[Any, ...] | None:
        """Makes the result of ``sample_batch``. A hook to override.

        Args:
            batch: What was drawn. The first tells the attributes.
            device: As in ``sample_batch``.
            concatenate: As in ``sample_batch``.
            sample_attrs: As in ``sample_batch``.
            additional_concat_custom_attrs: As in ``sample_batch``.

        Returns:
            For each attribute as in ``sample_batch``; None if the batch is empty.

        Raises:
            ValueError: Something cannot be concatenated.
        """
        if not batch:
            return None
        concat = additional_concat_custom_attrs or ()
        return self._collate(Rows.whole(batch), device, concatenate, sample_attrs, concat)

    def _collate(
        self,
        rows: Rows,
        device: Device,
        concatenate: bool,
        sample_attrs: Sequence[str] | None,
        concat: Sequence[str],
    ) -> tuple[Any, ...]:
        major, sub, custom = rows.names
        attributes = [*major, *sub, *custom] if sample_attrs is None else list(sample_attrs)
        # Only hooks that somebody wrote need lists, which cost far more than columns.
        plain = _is(self.pre_process_attribute, Buffer.pre_process_attribute) and _is(
            self.make_tensor_from_batch, Buffer.make_tensor_from_batch
        )

        def column(name: str, key: str | None = None) -> Any:
            whole = concatenate and (name not in custom or name in concat)
            value: Any = rows.tensor(name, key) if whole and plain else None
            if value is not None:
                value = _moved(value, device)
            else:
                values = rows.values(name, key)
                if name not in custom:
                    values = [_moved(each, device) for each in values]
                values = self.pre_process_attribute(name, key, values)
                value = self.make_tensor_from_batch(values, device, whole)
            return self.post_process_attribute(name, key, value)

        result: list[Any] = []
        for name in attributes:
            if name in major:
                result.append({key: column(name, key) for key in rows.keys(name)})
            elif name in sub or name in custom:
                result.append(column(name))
            elif name == "*":
                result.append({each: column(each) for each in custom if each not in attributes})
        return tuple(result)

    def pre_process_attribute(
        self, attribute: str, sub_key: str | None, values: list[Any]
    ) -> list[Any]:
        """Changes what transitions hold before it is joined. A hook to override, to pad tensors
        of different shapes, for one.

        Args:
            attribute: Name.
            sub_key: Of a tensor in a major attribute; None for others.
            values: What the transitions of the batch hold, on the device that was asked for.

        Returns:
            As many values.
        """
        return values

    def make_tensor_from_batch(
        self, batch: list[Any], device: Device, concatenate: bool
    ) -> Tensor | list[Any]:
        """Joins what transitions hold. A hook to override.

        Args:
            batch: Tensors ``[1, ...]`` or numbers.
            device: Where the result shall be. None: where the first tensor is.
            concatenate: Whether to join anything at all.

        Returns:
            Tensors joined in dimension 0, numbers as ``[n, 1]``; or ``batch`` if it is empty or
            ``concatenate`` is False.

        Raises:
            ValueError: They cannot be joined.
        """
        if not concatenate or not batch:
            return batch
        try:
            if isinstance(batch[0], Tensor):
                return torch.cat([_moved(each, device) for each in batch])
            return torch.tensor(batch, device=device).view(len(batch), -1)
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{type(self).__name__}.sample_batch: Batch not concatenable: values must be "
                f"numbers, or tensors of one shape, got {str(batch[:2])[:200]} ... ({error}). "
                "Override pre_process_attribute to pad them"
            ) from error

    def post_process_attribute(self, attribute: str, sub_key: str | None, values: Any) -> Any:
        """Changes a joined attribute. A hook to override.

        Args:
            attribute: Name.
            sub_key: Of a tensor in a major attribute; None for others.
            values: A tensor ``[n, ...]``, or a list where nothing was joined.

        Returns:
            What ``sample_batch`` shall return for it.
        """
        return values

    # -- arguments -----------------------------------------------------------------------------

    def _concat_attrs(
        self, method: str, names: Sequence[str] | None, others: dict[str, Any]
    ) -> Sequence[str]:
        """Custom attributes to concatenate, by Machin 0.4.2's name for it, too."""
        old = others.pop("additional_concat_attrs", None)
        self._warn_unknown(method, others)
        return names or old or ()

    def _warn_unknown(self, method: str, arguments: Mapping[str, Any]) -> None:
        if arguments:
            warnings.warn(
                f"{type(self).__name__}.{method}: arguments must be known, "
                f"got {', '.join(arguments)}, which do nothing",
                stacklevel=3,
            )


def _is(method: Any, function: Any) -> bool:
    """Whether a bound method is that function, neither overridden nor patched."""
    return getattr(method, "__func__", None) is function


def _moved(value: Any, device: Device) -> Any:
    return value.to(device) if isinstance(value, Tensor) and device is not None else value

"""Transitions as columns, and back.

A column holds one tensor of a major attribute, ``state/position``, or one other attribute. Numbers
of one type are a tensor ``[n]`` and that type, tensors ``[1, ...]`` of one shape and dtype are a
tensor ``[n, ...]``, whatever else there is a list of n objects.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from machin_fast.data.columns import Column, as_columns, common_length
from machin_fast.transition import Names, Transition, TransitionBase, restored

# Python's numbers, and what holds them without loss. Numpy's are held as they are.
_PYTHON_NUMBERS: dict[type, type] = {bool: np.bool_, int: np.int64, float: np.float64}
_NUMBER_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64}
_WHOLE = "transition"


def column_name(attribute: str, key: str | None) -> str:
    """Of the column of an attribute; ``key`` is that of a tensor in a major one."""
    return attribute if key is None else f"{attribute}/{key}"


class Layout:
    """What transitions have in common that share columns.

    Attributes:
        kind: Their class.
        names: Of their attributes.
        keys: Of each major attribute.
        fields: For each column the attribute and, if it is a major one, the key that it holds.
    """

    def __init__(
        self, kind: type[TransitionBase], names: Names, keys: Mapping[str, Collection[str]]
    ) -> None:
        major, sub, custom = names
        self.kind = kind
        self.names = names
        self.keys = {name: tuple(keys[name]) for name in major}
        self._key_sets = {name: frozenset(keys[name]) for name in major}
        fields: list[tuple[str, str | None]]
        fields = [(name, key) for name in major for key in self.keys[name]]
        fields += [(name, None) for name in (*sub, *custom)]
        self.fields = {column_name(*field): field for field in fields}
        self.unique = len(self.fields) == len(fields)
        # What vars() of a transition has: its attributes, their names and the batch size.
        self._size = len(major) + len(sub) + len(custom) + 2

    @classmethod
    def of(cls, transition: TransitionBase) -> Layout:
        """That of one transition."""
        names = transition._names
        return cls(type(transition), names, {name: transition[name] for name in names[0]})

    def describes(self, transitions: list[TransitionBase]) -> bool:
        """Whether columns of this layout can hold the transitions."""
        data = [vars(transition) for transition in transitions]
        return (
            self.unique
            and set(map(type, transitions)) == {self.kind}
            and all(each["_names"] == self.names for each in data)
            and all(each["_batch_size"] == 1 for each in data)
            and set(map(len, data)) == {self._size}  # a subclass may keep more than attributes
            and all(
                all(each[name].keys() == keys for each in data)
                for name, keys in self._key_sets.items()
            )
        )

    def same(self, other: Layout | None) -> bool:
        """Whether both describe the same transitions."""
        return self is other or (
            other is not None
            and self.kind is other.kind
            and self.names == other.names
            and self.fields.keys() == other.fields.keys()
        )


class Rows:
    """n transitions as columns; or, where they have too little in common, a list of them.

    Args:
        layout: What they have in common; None for a list of transitions.
        kinds: For each column the type of its values; object if it is a list.
        columns: For each name a tensor ``[n, ...]`` or a list of n objects.
    """

    def __init__(
        self, layout: Layout | None, kinds: dict[str, type], columns: dict[str, Column]
    ) -> None:
        self.layout = layout
        self.kinds = kinds
        self.columns = columns

    def __len__(self) -> int:
        """Number of transitions."""
        return len(next(iter(self.columns.values())))

    # -- making them ---------------------------------------------------------------------------

    @classmethod
    def whole(cls, transitions: list[TransitionBase]) -> Rows:
        """A list of transitions, as it is."""
        return cls(None, {_WHOLE: object}, {_WHOLE: transitions})

    @classmethod
    def copied(
        cls, transitions: list[TransitionBase], device: torch.device, like: Layout | None = None
    ) -> Rows:
        """Rows that share nothing with the transitions.

        Args:
            transitions: At least one.
            device: Where tensors, but for those in custom attributes, shall be.
            like: A layout that they may have; spares making another.

        Returns:
            Columns; or copies of the transitions if their attributes differ.
        """
        layout = like
        if layout is None or not layout.describes(transitions):
            layout = Layout.of(transitions[0])
            if not layout.describes(transitions):
                return cls.whole([copy.deepcopy(each).to(device) for each in transitions])
        data = [vars(transition) for transition in transitions]
        kinds: dict[str, type] = {}
        columns: dict[str, Column] = {}
        for column, (name, key) in layout.fields.items():
            values = [each[name] for each in data]
            if key is not None:
                values = [each[key] for each in values]
            custom = name in layout.names[2]
            kinds[column], columns[column] = _encoded(values, device, custom)
        return cls(layout, kinds, columns)

    @classmethod
    def of_columns(cls, op: str, columns: Mapping[str, Any], device: torch.device) -> Rows:
        """Transitions of the default class that come as columns.

        Args:
            op: Who asks, for errors.
            columns: ``state``, ``action`` and ``next_state``: mappings of ``[n, ...]``;
                ``reward`` and ``terminal``: numbers ``[n]`` or tensors ``[n, ...]``; custom
                attributes: likewise, or lists of n objects.
            device: Where tensors, but for those in custom attributes, shall be.

        Returns:
            Columns, of which some may be those given.

        Raises:
            TypeError: Something is no column, or ``terminal`` is no bool.
            ValueError: A column is missing, or lengths differ.
        """
        layout, given = _read(op, columns)
        return cls._taken(op, layout, given, device)

    @classmethod
    def of_rollout(
        cls, op: str, columns: Mapping[str, Any], device: torch.device
    ) -> tuple[Rows, np.ndarray[Any, np.dtype[np.int64]]]:
        """Transitions of several environments, one after another, and where to cut them.

        Args:
            op: As in ``of_columns``.
            columns: As in ``of_columns``, but tensors and arrays ``[steps, envs, ...]``. Beside
                ``terminal``, ``truncated`` ends episodes, too.
            device: As in ``of_columns``.

        Returns:
            ``steps * envs`` transitions, and the length of each episode.

        Raises:
            TypeError: As ``of_columns`` does.
            ValueError: As ``of_columns`` does, or first dimensions differ.
        """
        layout, given = _read(op, columns)
        terminal = given["terminal"]
        flat: dict[str, Column] = {}
        for name, values in given.items():
            if isinstance(values, list) or values.dim() < 2:
                got = "a list" if isinstance(values, list) else list(values.shape)
                raise ValueError(f"{op}: {name} must be [steps, envs, ...], got {got}")
            steps, envs = values.shape[:2]
            if isinstance(terminal, Tensor) and terminal.shape[:2] != (steps, envs):
                raise ValueError(
                    f"{op}: {name} must have steps and envs as terminal has, "
                    f"{list(terminal.shape)}, got {list(values.shape)}"
                )
            flat[name] = values.transpose(0, 1).flatten(0, 1)
        rows = cls._taken(op, layout, flat, device)
        done = np.zeros((envs, steps), bool)
        for name in ("terminal", "truncated"):
            if name in flat:
                done |= _flags(op, name, flat[name]).reshape(envs, steps)
        done[:, -1:] = True
        ends = np.flatnonzero(done) + 1
        return rows, np.diff(ends, prepend=0)

    @classmethod
    def _taken(
        cls, op: str, layout: Layout, given: dict[str, Column], device: torch.device
    ) -> Rows:
        common_length(op, given)
        _flags(op, "terminal", given["terminal"])
        custom = layout.names[2]
        kinds: dict[str, type] = {}
        columns: dict[str, Column] = {}
        for column, (name, key) in layout.fields.items():
            values = given[column]
            if name not in custom and isinstance(values, list):
                raise TypeError(f"{op}: {column} must be a tensor or an array, got a list")
            form = "major" if key is not None else "custom" if name in custom else "sub"
            kinds[column], columns[column] = _as_held(values, device, form)
        return cls(layout, kinds, columns)

    # -- what they hold ------------------------------------------------------------------------

    @property
    def names(self) -> Names:
        """Of the attributes; of the first transition if it is a list."""
        return self.layout.names if self.layout else self._list()[0]._names

    def keys(self, attribute: str) -> Iterable[str]:
        """Of a major attribute; of the first transition if it is a list."""
        return self.layout.keys[attribute] if self.layout else self._list()[0][attribute]

    def tensor(self, attribute: str, key: str | None = None) -> Tensor | None:
        """One column, numbers as ``[n, 1]`` in the dtype that ``torch.tensor`` gives them.

        Returns:
            ``[n, ...]``; None if it is a list.
        """
        name = column_name(attribute, key)
        column = self.columns.get(name)
        if not isinstance(column, Tensor):
            return None
        kind = self.kinds[name]
        if kind is Tensor:
            return column
        return (column.to(torch.get_default_dtype()) if kind is float else column)[:, None]

    def values(self, attribute: str, key: str | None = None) -> list[Any]:
        """One column as the list of what transitions hold. Tensors are views."""
        if self.layout is None:
            try:
                values = [each[attribute] for each in self._list()]
                return values if key is None else [each[key] for each in values]
            except (AttributeError, KeyError):
                raise ValueError(
                    f"sample_batch: all transitions must have {column_name(attribute, key)} as "
                    "the first has, got some without. Ask for what all have by sample_attrs"
                ) from None
        name = column_name(attribute, key)
        column, kind = self.columns[name], self.kinds[name]
        if isinstance(column, list):
            return column
        if kind is Tensor:
            return list(column[:, None].unbind())
        return column.tolist() if kind in _PYTHON_NUMBERS else list(column.cpu().numpy())

    @functools.cached_property
    def forms(self) -> dict[str, tuple[object, ...]]:
        """What of a column must be the same for rows to go into it."""
        return {
            name: (self.kinds[name], column.dtype, column.shape[1:])
            if isinstance(column, Tensor)
            else (object,)
            for name, column in self.columns.items()
        }

    def loosen(self, name: str) -> None:
        """Makes a column a list, of tensors that do not hold on to the column."""
        assert self.layout is not None
        if self.kinds[name] is object:
            return
        values = self.values(*self.layout.fields[name])
        own = [value.clone() if isinstance(value, Tensor) else value for value in values]
        self.columns[name], self.kinds[name] = own, object
        vars(self).pop("forms", None)

    def loosen_all(self) -> None:
        """Makes it a list of transitions."""
        if self.layout is None:
            return
        for name in self.layout.fields:
            self.loosen(name)
        whole = Rows.whole(self.transitions())
        vars(self).clear()
        vars(self).update(vars(whole))

    def transitions(self) -> list[TransitionBase]:
        """All of them. Tensors are views."""
        if self.layout is None:
            return self._list()
        kind, names, keys = self.layout.kind, self.layout.names, self.layout.keys
        attributes = [
            [dict(zip(keys[name], row, strict=True)) for row in self._tensors_of(name)]
            for name in names[0]
        ]
        attributes += [self.values(name) for name in (*names[1], *names[2])]
        flat = [name for group in names for name in group]
        return [
            restored(kind, names, dict(zip(flat, row, strict=True)))
            for row in zip(*attributes, strict=True)
        ]

    def head(self, n: int) -> Rows:
        """The first n; tensors are views."""
        head = {name: column[:n] for name, column in self.columns.items()}
        return Rows(self.layout, dict(self.kinds), head)

    def _tensors_of(self, major: str) -> Iterable[tuple[Tensor, ...]]:
        columns = [self.values(major, key) for key in self.keys(major)]
        return zip(*columns, strict=True) if columns else [()] * len(self)

    def _list(self) -> list[Any]:
        column = self.columns[_WHOLE]
        assert isinstance(column, list)
        return column


def misfits(rows: Rows, others: Rows) -> list[str] | None:
    """Columns that differ in kind, dtype or row shape; None if the layouts differ."""
    alike = rows.layout.same(others.layout) if rows.layout else others.layout is None
    if not (alike and others.columns):
        return None
    forms, other_forms = rows.forms, others.forms
    if forms == other_forms:
        return []
    return [name for name, form in forms.items() if form != other_forms[name]]


def _encoded(values: list[Any], device: torch.device, custom: bool) -> tuple[type, Column]:
    """A column and its kind. ``custom`` values that are no numbers are kept as they are."""
    kind = type(values[0])
    if issubclass(kind, Tensor) and not custom:
        rows = _joined(values)
        if rows is not None:
            return Tensor, rows.to(device)
    elif kind in _PYTHON_NUMBERS or issubclass(kind, np.number | np.bool_):
        rows = _numbers(values, kind)
        if rows is not None:
            return kind, rows.to(device)
    return object, [_own(value, None if custom else device) for value in values]


def _read(op: str, columns: Mapping[str, Any]) -> tuple[Layout, dict[str, Column]]:
    """The layout of transitions that come as columns, and the columns by its names."""
    major, sub = ("state", "action", "next_state"), ("reward", "terminal")
    if missing := [name for name in (*major, *sub) if name not in columns]:
        raise ValueError(f"{op}: columns must have {', '.join(missing)}, got {[*columns]}")
    for name, values in columns.items():
        if (name in major) != isinstance(values, Mapping):
            rule = "a mapping of columns" if name in major else "a column"
            raise TypeError(f"{op}: {name} must be {rule}, got {type(values).__name__}")
    custom = tuple(sorted(columns.keys() - {*major, *sub}))
    layout = Layout(Transition, (major, sub, custom), {name: columns[name] for name in major})
    given = as_columns(op, columns, None)
    if odd := given.keys() - layout.fields.keys():
        raise ValueError(f"{op}: mappings must hold columns alone, got {', '.join(sorted(odd))}")
    return layout, given


def _flags(op: str, name: str, values: Column) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A column of one bool a row."""
    if not isinstance(values, Tensor) or values.dtype != torch.bool:
        got = values.dtype if isinstance(values, Tensor) else "a list"
        raise TypeError(f"{op}: {name} must be bool, got {got}")
    if values.numel() != len(values):
        raise ValueError(f"{op}: {name} must be one value a step, got {list(values.shape)}")
    return values.cpu().numpy().reshape(-1)


def _as_held(values: Column, device: torch.device, form: str) -> tuple[type, Column]:
    """A given column as what transitions hold of it, and its kind.

    ``form`` is that of the attribute: major, sub or custom.
    """
    if isinstance(values, list):
        return object, [_own(value, None) for value in values]
    if form == "major" or (form == "sub" and values.dim() > 1):
        return Tensor, values.to(device)
    if values.dim() > 1:
        return object, list(values.clone()[:, None].unbind())
    if values.is_complex():
        return object, values.tolist()
    kind = type(values.new_ones(()).item())
    return kind, values.to(device, _NUMBER_DTYPES[kind])


def _joined(values: list[Any]) -> Tensor | None:
    """``[n, ...]`` of tensors ``[1, ...]``, a copy; None if they do not fit each other."""
    try:
        rows = torch.cat(values)
    except (RuntimeError, TypeError):  # shapes differ, devices differ, or not all are tensors
        return None
    same = rows.layout is torch.strided and all(value.dtype is rows.dtype for value in values)
    return rows if same else None


def _numbers(values: list[Any], kind: type) -> Tensor | None:
    """``[n]`` of numbers of one type; None if they are not, or have no tensor."""
    if set(map(type, values)) != {kind}:
        return None
    try:
        return torch.from_numpy(np.array(values, _PYTHON_NUMBERS.get(kind, kind)))
    except (OverflowError, TypeError):
        return None


def _own(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to(device or value.device, copy=True)
    return copy.deepcopy(value)

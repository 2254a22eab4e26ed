"""One step of an agent: what Machin's buffers store, and what a program sees of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Scalar: TypeAlias = int | float | bool
"""A number, as a sub attribute may be."""

_NUMBERS = (int, float, complex, np.number, np.bool_)

Names: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Of the major, sub and custom attributes."""


class TransitionBase:
    """Attributes of three sorts, each readable as ``x.name`` and ``x["name"]``.

    Major ones are dicts of tensors, which become arguments of models. Sub ones are numbers or
    tensors. All these tensors have the same first dimension, the batch size; they are detached,
    not copied. Custom ones are anything, and nothing is done to them.

    Args:
        major_attr: Names.
        sub_attr: Names.
        custom_attr: Names. No two attributes have the same.
        major_data: For each name a dict of tensors ``[batch, ...]``. The dicts are not kept.
        sub_data: For each name a tensor ``[batch, ...]``, or a number if the batch size is 1.
        custom_data: For each name anything.

    Raises:
        ValueError: Names or data are not as listed above.
    """

    def __init__(
        self,
        major_attr: Iterable[str],
        sub_attr: Iterable[str],
        custom_attr: Iterable[str],
        major_data: Iterable[Mapping[str, Tensor]],
        sub_data: Iterable[Scalar | Tensor],
        custom_data: Iterable[Any],
    ) -> None:
        names = tuple(major_attr), tuple(sub_attr), tuple(custom_attr)
        data = tuple(major_data), tuple(sub_data), tuple(custom_data)
        values: dict[str, Any] = {}
        for group, items in zip(names, data, strict=True):
            if len(group) != len(items):
                raise ValueError(
                    f"{type(self).__name__}: data must be one for each of {', '.join(group)}, "
                    f"got {len(items)}"
                )
            values.update(zip(group, items, strict=True))
        if len(values) != sum(map(len, names)):
            raise ValueError(f"{type(self).__name__}: names must differ, got {names}")
        self._begin(names, values)

    def __len__(self) -> int:
        """Number of attributes."""
        return sum(map(len, self._names))

    def __getitem__(self, item: str) -> Any:
        return getattr(self, item)

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self.keys():
            raise RuntimeError(
                "You cannot dynamically set new attributes in a Transition object: "
                f"name must be one of {', '.join(self.keys())}, got {key}"
            )
        self._set({**dict(self.items()), key: value})

    def __setattr__(self, key: str, value: Any) -> None:
        if "_names" in vars(self):
            self[key] = value
        else:  # of a subclass, before it calls this constructor
            vars(self)[key] = value

    if TYPE_CHECKING:
        _names: Names
        _batch_size: int | None

        def __getattr__(self, name: str) -> Any: ...

    @property
    def major_attr(self) -> list[str]:
        """Names of the major attributes."""
        return list(self._names[0])

    @property
    def sub_attr(self) -> list[str]:
        """Names of the sub attributes."""
        return list(self._names[1])

    @property
    def custom_attr(self) -> list[str]:
        """Names of the custom attributes."""
        return list(self._names[2])

    def keys(self) -> list[str]:
        """All names: major, sub, custom."""
        major, sub, custom = self._names
        return [*major, *sub, *custom]

    def items(self) -> Iterator[tuple[str, Any]]:
        """All names and values, in the order of ``keys``."""
        data = vars(self)
        return ((key, data[key]) for key in self.keys())

    def has_keys(self, keys: Iterable[str]) -> bool:
        """Whether all these attributes are there."""
        return set(keys) <= set(self.keys())

    def to(self, device: str | torch.device | None) -> TransitionBase:
        """Moves the tensors of major and sub attributes, in place.

        Args:
            device: Where to. None: they stay where they are.

        Returns:
            Self.
        """
        if device is not None:
            data = vars(self)
            for name in self._names[0]:
                data[name] = {key: tensor.to(device) for key, tensor in data[name].items()}
            for name in self._names[1]:
                if isinstance(data[name], Tensor):
                    data[name] = data[name].to(device)
        return self

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in self.items())
        return f"{type(self).__name__}({values})"

    def _begin(self, names: Names, values: dict[str, Any]) -> None:
        vars(self)["_names"] = names
        self._set(values)

    def _set(self, values: dict[str, Any]) -> None:
        """Takes values for all attributes, or raises and takes none."""
        major, sub, custom = self._names
        new: dict[str, Any] = {}
        batch_size: int | None = None
        for name in major:
            if not isinstance(values[name], (dict, Mapping)):  # the usual one first, it is fast
                raise ValueError(
                    f"{self._where(name)} is an invalid tensor dict: it must be a dict of "
                    f"tensors, got {type(values[name]).__name__}"
                )
            tensors = new[name] = {}
            for key, tensor in values[name].items():
                tensors[key] = self._checked(tensor, batch_size, name, key)
                batch_size = tensor.size(0)
        for name in sub:
            value = values[name]
            if isinstance(value, Tensor):
                new[name] = self._checked(value, batch_size, name)
            elif not isinstance(value, _NUMBERS):
                raise ValueError(
                    f"{self._where(name)} has an invalid value, got {type(value).__name__}, "
                    "requires scalar or tensor"
                )
            elif batch_size != 1:
                raise ValueError(
                    f"{self._where(name)} is a scalar, but batch size is {batch_size}. "
                    "Make it a tensor [batch, ...]"
                )
            else:
                new[name] = value
        for name in custom:
            new[name] = values[name]
        self._check_batch_size(batch_size)
        vars(self).update(new, _batch_size=batch_size)

    def _checked(
        self, tensor: Any, batch_size: int | None, name: str, key: str | None = None
    ) -> Tensor:
        if isinstance(tensor, Tensor) and tensor.dim():
            if batch_size is None or tensor.size(0) == batch_size:
                return tensor.detach() if tensor.requires_grad else tensor
            raise ValueError(
                f"{self._where(name, key)} has invalid batch size {tensor.size(0)}: it must be "
                f"{batch_size} as in what stands before"
            )
        got = "a single value" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(
            f"{self._where(name, key)} is an invalid tensor: it must be a tensor "
            f"[batch, ...], got {got}"
        )

    def _check_batch_size(self, batch_size: int | None) -> None:
        """Of subclasses that allow not every one."""

    def _where(self, name: str, key: str | None = None) -> str:
        return f"{type(self).__name__}: {name}" + ("" if key is None else f'["{key}"]')


class Transition(TransitionBase):
    """One step of one agent: the batch size is 1.

    Args:
        state: Tensors ``[1, ...]`` by name, what the agent saw.
        action: Likewise, what it did.
        next_state: Likewise, what it saw then.
        reward: What it got for it, a number or a tensor ``[1, ...]``.
        terminal: Whether the episode ended there, bool or a bool tensor.
        **kwargs: Custom attributes, ordered by name.

    Raises:
        TypeError: ``terminal`` is no bool.
        ValueError: Something else is not as listed above.
    """

    _default = ("state", "action", "next_state"), ("reward", "terminal")

    if TYPE_CHECKING:
        state: dict[str, Tensor]
        action: dict[str, Tensor]
        next_state: dict[str, Tensor]
        reward: Scalar | Tensor
        terminal: bool | Tensor

    def __init__(
        self,
        state: Mapping[str, Tensor],
        action: Mapping[str, Tensor],
        next_state: Mapping[str, Tensor],
        reward: Scalar | Tensor,
        terminal: bool | Tensor,
        **kwargs: Any,
    ) -> None:
        values = {
            "state": state, "action": action, "next_state": next_state,
            "reward": reward, "terminal": terminal, **kwargs,
        }  # fmt: skip
        self._begin((*self._default, tuple(sorted(kwargs))), values)

    def _set(self, values: dict[str, Any]) -> None:
        terminal = values["terminal"]
        if isinstance(terminal, np.bool_):
            values["terminal"] = bool(terminal)
        elif not (
            terminal.dtype == torch.bool
            if isinstance(terminal, Tensor)
            else isinstance(terminal, bool)
        ):
            got = terminal.dtype if isinstance(terminal, Tensor) else type(terminal).__name__
            raise TypeError(f"{self._where('terminal')} must be a bool or bool tensor, got {got}")
        super()._set(values)

    def _check_batch_size(self, batch_size: int | None) -> None:
        if batch_size != 1:
            raise ValueError(f"{type(self).__name__}: batch size must be 1, got {batch_size}")


def restored(kind: type[TransitionBase], names: Names, values: Mapping[str, Any]) -> TransitionBase:
    """A transition of batch size 1 from values that one has had, without checks.

    Args:
        kind: Its class, whose constructor is not called.
        names: Of its attributes.
        values: Of all attributes.

    Returns:
        The transition, which holds the very objects given.
    """
    transition = object.__new__(kind)
    vars(transition).update(values, _names=names, _batch_size=1)
    return transition

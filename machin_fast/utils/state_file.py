"""States as files: what ``state_dict`` methods return, in one file of tensors and JSON.

In the JSON text, what JSON does not know is a dict of one key that begins with an exclamation
mark: ``{"!tuple": [1, 2]}``, ``{"!tensor": ["state['w']", "cpu"]}``. Dicts whose own keys could
be mistaken for that are lists of pairs: ``{"!dict": [["!a", 1], ["b", 2]]}``.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from machin_fast.utils import tensor_file
from machin_fast.utils.tensor_file import Json

# A MultiStepLR has a Counter, a module an OrderedDict.
_DICTS: dict[str, type] = {"!dict": dict, "!OrderedDict": OrderedDict, "!Counter": Counter}


def save_state(path: str | os.PathLike[str], state: Any, *, kind: str) -> None:
    """Writes a state to a file, whole or not at all.

    Args:
        path: Of the file, in a folder that exists.
        state: Dicts with keys of str or int, lists and tuples, one in the other, of str, int,
            float, bool, None, tensors, arrays and numbers of numpy. Of a parameter its numbers
            are saved; tensors that share memory are saved as several.
        kind: What the file is, for ``load_state`` to check.

    Raises:
        TypeError: There is something else in it; no file is touched.
        ValueError: It is too deep or too large; no file is touched.
        OSError: The file cannot be written; the old one is as it was.
    """
    tensors: dict[str, Tensor] = {}
    try:
        content = _as_json(state, "state", tensors)
    except RecursionError as error:
        raise ValueError(
            "save_state: state must be less deep, got one inside the other too often (or itself)"
        ) from error
    tensor_file.save(path, tensors, content, kind=kind)


def load_state(
    path: str | os.PathLike[str], *, kind: str, device: torch.device | str | None = None
) -> Any:
    """Reads what ``save_state`` wrote. Runs no code that is in it, whoever made it.

    Args:
        path: Of the file.
        kind: As saved.
        device: Where tensors shall be that were not on the CPU. Those that were stay there, where
            states of random generators and counts of steps belong. None: where each was.

    Returns:
        What was saved, of the same types, in memory of its own.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, program or later version, or it is damaged; or a tensor
            was on a device that takes none now.
    """
    tensors, content = tensor_file.load(path, kind=kind)
    return _restored(content, tensors, device)


def _as_json(value: Any, place: str, tensors: dict[str, Tensor]) -> Json:
    """A state as JSON; its tensors go into ``tensors`` by their places."""
    cls = type(value)
    if value is None or cls in (str, int, float, bool):
        return value
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"!tensor": [place, str(value.device)]}
    if cls is np.ndarray or isinstance(value, np.number | np.bool_):
        try:
            # A copy, as an array may be read-only or have negative strides.
            tensors[place] = torch.from_numpy(np.array(value, order="C"))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"save_state: {place} must be of a dtype of torch, got {value.dtype}"
            ) from error
        return {"!array" if cls is np.ndarray else "!number": place}
    if cls in (list, tuple):
        items: Json = [_as_json(x, f"{place}[{i}]", tensors) for i, x in enumerate(value)]
        return items if cls is list else {"!tuple": items}
    if cls in _DICTS.values():
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"save_state: keys of {place} must be str or int, got {key!r}")
        pairs = {key: _as_json(x, f"{place}[{key!r}]", tensors) for key, x in value.items()}
        if cls is dict and all(type(key) is str and key[:1] != "!" for key in pairs):
            return pairs
        return {f"!{cls.__name__}": [[key, x] for key, x in pairs.items()]}
    raise TypeError(
        f"save_state: {place} must be a dict, list, tuple, str, int, float, bool, None, tensor, "
        f"array or number, got {cls.__name__}"
    )


def _restored(
    content: Any, tensors: Mapping[str, Tensor], device: torch.device | str | None
) -> Any:
    """What ``_as_json`` made this JSON of."""
    if isinstance(content, list):
        return [_restored(x, tensors, device) for x in content]
    if not isinstance(content, dict):
        return content
    mark = next(iter(content), "")
    if mark[:1] != "!":
        return {key: _restored(x, tensors, device) for key, x in content.items()}
    value = content[mark]
    if mark == "!tensor":
        place, origin = value
        return tensors[place] if origin == "cpu" else _moved(tensors[place], device or origin)
    if mark in ("!array", "!number"):
        array = tensors[value].numpy()
        return array if mark == "!array" else array[()]
    if mark == "!tuple":
        return tuple(_restored(value, tensors, device))
    if mark in _DICTS:
        return _DICTS[mark]({key: _restored(x, tensors, device) for key, x in value})
    raise ValueError(f"load_state: the file must be of this version, got {mark!r} in it")


def _moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    try:
        return tensor.to(device)
    except (AssertionError, RuntimeError) as error:  # the former if torch is without CUDA
        raise ValueError(
            f"load_state: device must take tensors, got {device} ({error}). Name another one"
        ) from error

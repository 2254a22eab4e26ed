"""Steps that tell their own number in each attribute."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from machin_fast.transition import TransitionBase


def step(number: int, /, **custom: Any) -> dict[str, Any]:
    return {
        "state": {
            "position": torch.tensor([[number, number + 0.5]]),
            "goal": torch.tensor([number]),
        },
        "action": {"action": torch.tensor([[number % 5]])},
        "next_state": {
            "position": torch.tensor([[number + 1, number + 1.5]]),
            "goal": torch.tensor([number + 1]),
        },
        "reward": number / 10,
        "terminal": number % 3 == 0,
        **custom,
    }


def steps(numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [step(number, number=number) for number in numbers]


def columns(numbers: Iterable[int], *shape: int) -> dict[str, Any]:
    """The same as ``steps`` without custom attributes, as columns ``[*shape, ...]``."""
    found = list(numbers)
    each = [step(number) for number in found]
    shape = shape or (len(found),)

    def joined(attribute: str, key: str) -> torch.Tensor:
        return torch.stack([x[attribute][key][0] for x in each]).unflatten(0, shape)

    return {
        attribute: {key: joined(attribute, key) for key in keys}
        for attribute, keys in (
            ("state", ("position", "goal")),
            ("action", ("action",)),
            ("next_state", ("position", "goal")),
        )
    } | {
        "reward": np.array([x["reward"] for x in each]).reshape(shape),
        "terminal": torch.tensor([x["terminal"] for x in each]).view(shape),
    }


def assert_steps(transitions: list[TransitionBase], numbers: Iterable[int], **custom: Any) -> None:
    """The transitions are those of ``step`` with these numbers, Python types included."""
    expected = [step(int(number)) for number in numbers]
    assert len(transitions) == len(expected)
    for got, want in zip(transitions, expected, strict=True):
        assert got.major_attr == ["state", "action", "next_state"]
        for name in got.major_attr:
            assert list(got[name]) == list(want[name])
            for key, tensor in want[name].items():
                assert got[name][key].dtype == tensor.dtype
                assert torch.equal(got[name][key].cpu(), tensor)
        assert (got.reward, type(got.reward)) == (want["reward"], float)
        assert (got.terminal, type(got.terminal)) == (want["terminal"], bool)


def assert_batch(batch: tuple[Any, ...] | None, numbers: Iterable[int]) -> None:
    """The attributes of a concatenated batch are those of these steps, in this order."""
    assert batch is not None
    expected = [step(int(number)) for number in numbers]
    for name, got in zip(("state", "action", "next_state"), batch, strict=False):
        for key, tensor in got.items():
            joined = torch.cat([each[name][key] for each in expected])
            assert tensor.dtype == joined.dtype
            assert torch.equal(tensor.cpu(), joined)
    reward = torch.tensor([each["reward"] for each in expected])
    assert batch[3].dtype == torch.float32
    assert torch.equal(batch[3].cpu(), reward[:, None])
    terminal = torch.tensor([each["terminal"] for each in expected])
    assert torch.equal(batch[4].cpu(), terminal[:, None])
